"""NumPy's archives of arrays."""

from __future__ import annotations

import io
import json
import zipfile
from typing import IO

import numpy as np

from fastnn.archives import array, array_header, opened
from fastnn.errors import ModelFileError, printable
from fastnn.formats.base import MAX_FILE, MAX_METADATA, MAX_TENSORS, Raw, check_names, check_shapes, strict_json

_DESCRIPTION = "description"  # JSON as bytes, in an array of its own: an archive has no other place for it
_MOST_SQUEEZED = 32  # times; weights hardly shrink, with 95 % of them zeros tenfold, and a bomb a thousandfold


def to_bytes(raw: Raw) -> bytes:
    """The file of a model."""
    text = json.dumps({**(raw.description or {}), "sha256": raw.sha256}, allow_nan=False, sort_keys=True)
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as archive:
        for name, values in {**raw.tensors, _DESCRIPTION: np.frombuffer(text.encode(), np.uint8)}.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, np.ascontiguousarray(values))
            archive.writestr(
                zipfile.ZipInfo(f"{name}.npy"), member.getvalue()
            )  # no date: the same model, the same bytes
    return content.getvalue()


def read(file: IO[bytes], size: int, shown: str) -> Raw:
    """The list of members, their headers, then the arrays."""
    with opened_model(file) as archive:
        names = archive.namelist()
        odd = [name for name in names if not name.endswith(".npy")]
        if odd:
            raise ModelFileError(f"{shown}: {printable(odd[0], 60)}: not an array")
        plain = [name.removesuffix(".npy") for name in names]
        check_names([name for name in plain if name != _DESCRIPTION], shown)
        shapes = {name: _shape(archive, name, shown) for name in plain}
        check_shapes({name: shape for name, shape in shapes.items() if name != _DESCRIPTION}, shown)
        arrays = {name: array(archive, f"{name}.npy") for name in plain}
    if _DESCRIPTION not in arrays:
        return Raw(arrays)
    description = strict_json(arrays.pop(_DESCRIPTION).tobytes().decode("utf-8"))
    sha256 = description.pop("sha256", None)
    return Raw(arrays, description, sha256 if isinstance(sha256, str) else None)


def opened_model(file: IO[bytes]) -> zipfile.ZipFile:
    """An archive with no more in it than a model can have."""
    return opened(file, 2 * MAX_TENSORS + 8, MAX_FILE, _MOST_SQUEEZED)


def _shape(archive: zipfile.ZipFile, name: str, shown: str) -> tuple[int, ...]:
    shape, _, dtype, _ = array_header(archive, f"{name}.npy")
    if dtype.str not in (("|u1",) if name == _DESCRIPTION else ("<f4", "<f8", ">f4", ">f8")):
        raise ModelFileError(f"{shown}: {printable(name, 60)} is {printable(dtype, 20)}; expected float32 or float64")
    if name == _DESCRIPTION and (len(shape) != 1 or shape[0] > MAX_METADATA):
        raise ModelFileError(f"{shown}: more than {MAX_METADATA:,} characters of metadata")
    return shape
