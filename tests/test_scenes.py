"""Pictures step by step: drawn scenes give what they gave, so that no threshold or constant changes unnoticed."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "tests" / "golden"))
import pictures

SCENES, PAGES = pictures.scenes(), pictures.pages()


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(pictures.FILE) as kept:
        return dict(kept)


def is_near(found: dict[str, np.ndarray], golden: dict[str, np.ndarray], name: str) -> None:
    """Means of blocks to a thousandth, pixels to four of 255: room for another machine's last bits."""
    for key, value in found.items():
        wanted = golden[f"{name}/{key}"]
        if value.dtype.kind == "f":
            np.testing.assert_allclose(value, wanted, atol=1e-3, err_msg=key)
        elif key == "pixels":
            assert np.abs(value.astype(int) - wanted).max() <= 4
        else:
            np.testing.assert_array_equal(value, wanted, err_msg=key)


@pytest.mark.parametrize("name", SCENES)
def test_one_digit_of_a_scene(name: str, golden: dict[str, np.ndarray]) -> None:
    is_near(pictures.followed(SCENES[name]), golden, name)


@pytest.mark.parametrize("name", PAGES)
def test_every_digit_of_a_page(name: str, golden: dict[str, np.ndarray]) -> None:
    is_near(pictures.read(PAGES[name]), golden, name)


def test_every_scene_is_kept(golden: dict[str, np.ndarray]) -> None:
    assert {key.partition("/")[0] for key in golden} == {*SCENES, *PAGES}
