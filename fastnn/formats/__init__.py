"""Model files: one reader and one writer a format. Each reader checks sizes before it believes them, and runs nothing.

What a reader returns is not yet a model: `fastnn.model.store` has the one validator that every format passes.
"""

from fastnn.formats import json_text, linear, npz, pytorch, safetensors
from fastnn.formats.base import ALL_SAID, MAX_FILE, Raw, Unsaid

__all__ = [
    "ALL_SAID",
    "FORMATS",
    "MAX_FILE",
    "Raw",
    "Unsaid",
    "json_text",
    "linear",
    "npz",
    "pytorch",
    "reader_for",
    "safetensors",
]

# what each is called: how to read it, how to write it, and the end of its files' names
FORMATS = {
    "safetensors": (safetensors.read, safetensors.to_bytes, ".safetensors"),
    "npz": (npz.read, npz.to_bytes, ".npz"),
    "json": (json_text.read, json_text.to_bytes, ".json"),
    "pytorch": (pytorch.read, pytorch.to_bytes, ".pt"),
}


def reader_for(start: bytes, members: list[str] | None) -> str:
    """The format of a file by its first bytes, and by its members where it is a zip archive; never by its name."""
    if members is not None:
        return "pytorch" if any(name.endswith("data.pkl") for name in members) else "npz"
    return "json" if start[:1] == b"{" else "safetensors"
