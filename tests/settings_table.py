"""The table of settings in docs/settings.md, from the fields of `Settings`: python tests/settings_table.py > table."""

from __future__ import annotations

from dataclasses import fields

from fastnn.training.settings import Settings


def table() -> str:
    """A table for each group."""
    lines: list[str] = []
    groups = dict.fromkeys(item.metadata["group"] for item in fields(Settings))
    for group in groups:
        lines += [f"**{group}**", "", "| option | TOML and Python | default | |", "|---|---|---|---|"]
        for item in (item for item in fields(Settings) if item.metadata["group"] == group):
            option = " ".join(f"`{flag}`" for flag in item.metadata["option"].replace("/", ",").split(","))
            default, allowed = item.default, item.metadata["allowed"]
            shown = (
                ",".join(map(str, default)) if isinstance(default, tuple) else "" if default is None else str(default)
            )
            shown = {"True": "true", "False": "false"}.get(shown, shown)
            text = item.metadata["help"]
            if isinstance(allowed, tuple):
                text = f"{text.rstrip('.')}: {', '.join(f'`{name}`' for name in allowed)}."
            lines.append(f"| {option} | `{item.name}` | {shown} | {text.replace('|', chr(92) + '|')} |")
        lines.append("")
    return "\n".join(lines).strip()


if __name__ == "__main__":
    print(table())
