"""Any picture a person has → the picture the network was trained on.

`decoding` reads files, `ink` takes the paper away, `segments` finds the digits, `recipes` makes them what the network
knows.
"""

from fastnn.images.decoding import FORMATS, MAX_PIXELS, SUFFIXES, decode, find_images, read
from fastnn.images.drawing import Mark, annotated, strip
from fastnn.images.recipes import (
    BOX,
    RECIPES,
    SIDE,
    Prepared,
    prepare_digit,
    prepare_digits,
    prepare_plain,
    ready_digits,
)

__all__ = [
    "BOX",
    "FORMATS",
    "MAX_PIXELS",
    "RECIPES",
    "SIDE",
    "SUFFIXES",
    "Mark",
    "Prepared",
    "annotated",
    "decode",
    "find_images",
    "prepare_digit",
    "prepare_digits",
    "prepare_plain",
    "read",
    "ready_digits",
    "strip",
]
