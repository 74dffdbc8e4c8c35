"""Mutated files into every reader: a valid result or our own error, never anything else, and never for long.

python -m tests.fuzz                              200,000 files a reader, as .ci/run does
python -m tests.fuzz --target npz --n 1000000 --seed 7
"""

from __future__ import annotations

import argparse
import gzip
import io
import random
import resource
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import hostile  # noqa: E402
import hostile_pictures  # noqa: E402

from fastnn import images  # noqa: E402
from fastnn.datasets.idx import read_idx  # noqa: E402
from fastnn.datasets.npy import NAMES, load_npy  # noqa: E402
from fastnn.datasets.npz import load_npz  # noqa: E402
from fastnn.datasets.tables import load_table  # noqa: E402
from fastnn.errors import FastnnError, ModelFileError  # noqa: E402
from fastnn.model import store  # noqa: E402

SLOWEST, MOST_GROWTH = 1.0, 256 * 2**20
INTERESTING = (0, 1, 2, 3, 7, 8, 16, 31, 32, 34, 44, 48, 57, 64, 91, 93, 123, 125, 127, 128, 254, 255)
PARTS = 2  # processes


def models() -> dict[str, list[bytes]]:
    """Sound files of each format, small enough that a mutation hits something."""
    network = store.Network.mlp(3, (2,), 2, "tanh")
    metadata = {"classes": ["a", "b"], "calibration": {"temperature": 2.0, "unsure_below": 0.1}}
    plain = store.Stored(network, network.initial_parameters(0), metadata)
    scaled = store.Stored(network, plain.parameters, metadata, (np.zeros(3), np.ones(3)))
    found: dict[str, list[bytes]] = {}
    for name in ("safetensors", "npz", "json"):
        found[name] = [store.FORMATS[name][1](store.raw_of(stored)) for stored in (plain, scaled)]
    found["safetensors"].append(store.FORMATS["pytorch"][1](store.raw_of(plain)))
    state = hostile.linear()
    found["pytorch"] = [
        hostile.pt_of(state),
        hostile.checkpoint_of(state),
        (ROOT / "tests/golden/linear.pt").read_bytes(),
    ]
    return found


def pictures() -> list[bytes]:
    """A small digit in every format and some modes."""
    from PIL import Image

    grey = Image.open(ROOT / "data/samples/3.png").convert("L").resize((24, 24))
    found = []
    for kind, modes in {
        "PNG": ("L", "RGBA", "P", "1", "I;16"),
        "JPEG": ("L", "RGB"),
        "BMP": ("L",),
        "GIF": ("P",),
        "WEBP": ("RGB",),
    }.items():
        for mode in modes:
            content = io.BytesIO()
            grey.convert(mode if mode != "I;16" else "I").convert(mode).save(content, kind)
            found.append(content.getvalue())
    found += [content for _, content in hostile_pictures.ordinary_jpegs() if len(content) < 20_000]
    found += [hostile_pictures.bmp(8, b"\10\3\0\0" * 8), hostile_pictures.png(8, 6, 16, 4, interlaced=1)]
    notes = hostile_pictures.chunk(b"tEXt", b"k\0text") + hostile_pictures.chunk(b"eXIf", b"MM\0*\0\0\0\x08\0\0")
    return [*found, hostile_pictures.png(8, 0, 8, 1, notes)]


def idx_files() -> list[bytes]:
    """Images and labels, plain and gzipped."""
    plain = [
        b"\0\0\x08\x03" + b"".join(n.to_bytes(4, "big") for n in (2, 3, 4)) + bytes(range(24)),
        b"\0\0\x08\x01" + (5).to_bytes(4, "big") + bytes(5),
        b"\0\0\x0d\x02" + b"".join(n.to_bytes(4, "big") for n in (2, 2)) + np.arange(4, dtype=">f4").tobytes(),
    ]
    return [*plain, *(gzip.compress(content, mtime=0) for content in plain)]


def tables() -> list[bytes]:
    """CSV as people have it."""
    return [
        b"label,a,b\n1,0.5,2\n0,3,4\n1,5,6\n",
        b"5.1,3.5,setosa\n4.9,3.0,virginica\n6.2,1e-3,setosa\n",
        b'"x";"y";"class"\n1;2;"a b"\n3;4;"c"\n',
        b"\xef\xbb\xbf1\t2\t0\r\n3\t4\t1\r\n",
        gzip.compress(b"y,p0,p1\n0,1,2\n1,3,4\n", mtime=0),
    ]


def arrays() -> list[bytes]:
    """Archives of NumPy."""
    found = []
    for pair, labels in ((("x", "y"), np.arange(4) % 2), (("x_train", "y_train"), np.array(["a", "é", "a", "b"]))):
        content = io.BytesIO()
        np.savez(content, **{pair[0]: np.arange(12.0).reshape(4, 3), pair[1]: labels})
        found.append(content.getvalue())
    return found


def plain_arrays() -> list[bytes]:
    """Examples and labels as NumPy saves them alone."""
    found = []
    for values in (np.arange(12.0).reshape(4, 3), np.arange(4) % 2):
        content = io.BytesIO()
        np.save(content, values)
        found.append(content.getvalue())
    return found


def read_npy() -> Callable[[bytes], object]:
    """Two folders of NumPy files: the content as examples in one, as labels in the other."""
    folders = [Path(tempfile.mkdtemp()) for _ in NAMES[:2]]
    for folder in folders:
        for name, values in zip(NAMES, plain_arrays(), strict=False):
            (folder / name).write_bytes(values)

    def from_bytes(content: bytes) -> object:
        which = zlib.crc32(content) % 2
        path = folders[which] / NAMES[which]
        path.unlink()  # one that is still mapped must not shrink
        path.write_bytes(content)
        return load_npy(path.parent)

    return from_bytes


def memory() -> str | None:
    """A folder in memory, where there is one."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def use(folder: str) -> None:
    """Let this process put what it writes there."""
    tempfile.tempdir = folder


def in_file(read: Callable[[Path], object], name: str) -> Callable[[bytes], object]:
    """A reader of paths as one of bytes."""
    path = Path(tempfile.mkdtemp()) / name

    def from_bytes(content: bytes) -> object:
        path.write_bytes(content)
        return read(path)

    return from_bytes


def read_model(content: bytes) -> object:
    """Any format, recognised by looking; one that does not say its activations is read as well."""
    try:
        return store.read(io.BytesIO(content), len(content), "file")
    except ModelFileError as error:
        if 'activation="relu"' not in str(error):
            raise
        return store.read(io.BytesIO(content), len(content), "file", store.Unsaid(("tanh",)))


def read_picture(content: bytes) -> object:
    """Decoded; one in eight is prepared too, which takes ten times as long."""
    picture = images.decode(content)
    return images.prepare_digit(picture) if zlib.crc32(content) % 8 == 0 else picture


def targets() -> dict[str, tuple[list[bytes], Callable[[bytes], object], type[FastnnError]]]:
    """Sound files, their reader, and the error it may raise."""
    found: dict[str, tuple[list[bytes], Callable[[bytes], object], type[FastnnError]]] = {
        name: (files, read_model, ModelFileError) for name, files in models().items()
    }
    found["idx"] = (idx_files(), in_file(read_idx, "idx"), FastnnError)
    found["csv"] = (tables(), in_file(load_table, "table.csv"), FastnnError)
    found["arrays"] = (arrays(), in_file(load_npz, "arrays.npz"), FastnnError)
    found["npy"] = (plain_arrays(), read_npy(), FastnnError)
    found["images"] = (pictures(), read_picture, FastnnError)
    return found


def mutated(good: bytes, generator: random.Random) -> bytes:
    """One to four of: a bit flipped, an interesting byte or number, a piece cut, doubled or moved, the end lost."""
    bad = bytearray(good)
    for _ in range(generator.randint(1, 4)):
        if not bad:
            break
        at, kind = generator.randrange(len(bad)), generator.randrange(8)
        if kind == 0:
            bad[at] ^= 1 << generator.randrange(8)
        elif kind <= 2:
            bad[at] = generator.choice(INTERESTING)
        elif kind == 3:
            size = generator.choice((1, 2, 4, 8))
            number = generator.choice((0, 1, 2**7, 2**8 - 1, 2**15, 2**16 - 1, 2**31 - 1, 2**32 - 1, 2**63 - 1))
            bad[at : at + size] = (number % 256**size).to_bytes(size, generator.choice(("little", "big")))
        elif kind == 4:
            del bad[at : at + generator.randint(1, 16)]
        elif kind == 5:
            bad[at:at] = bad[at : at + generator.randint(1, 16)]
        elif kind == 6:
            bad[at:at] = bytes(generator.choice(INTERESTING) for _ in range(generator.randint(1, 4)))
        elif generator.random() < 0.3:
            del bad[at:]
    return bytes(bad)


def campaign(target: str, count: int, seed: int) -> tuple[int, int, float]:
    """So many mutated files into a reader: how many were valid, how many refused, and the slowest.

    Raises
    ------
    AssertionError
        With the file's bytes, when anything but these two happened.
    """
    files, read, wanted = targets()[target]
    for good in files:
        if target != "npy":  # of the two files, only the one in its own place is sound
            read(good)
    generator, valid, slowest = random.Random(f"{target} {seed}"), 0, 0.0
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    for _ in range(count):
        bad = mutated(generator.choice(files), generator)
        begin = time.perf_counter()
        try:
            read(bad)
            valid += 1
        except wanted as error:
            assert "\n" not in str(error), (target, bad)
            assert "\x1b" not in str(error), (target, bad)
        except BaseException as error:
            raise AssertionError(f"{target}: {type(error).__name__}: {error}: {bad!r}") from error
        slowest = max(slowest, time.perf_counter() - begin)
        assert slowest < SLOWEST, (target, slowest, bad)
    growth = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    assert growth < MOST_GROWTH, (target, growth)
    return valid, count - valid, slowest


def parts(names: list[str], count: int, seed: int) -> Iterator[tuple[str, int, int]]:
    """The work in pieces, so that no process waits for another."""
    for name in names:
        for part in range(4):
            yield name, count // 4 + (part < count % 4), 1_000 * seed + part


def main() -> None:
    """Run the campaigns and print a line for each."""
    with tempfile.TemporaryDirectory(dir=memory()) as folder:
        use(folder)
        run(folder)


def run(folder: str) -> None:
    """What the command asks for, with files in a folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", choices=sorted(targets()), help="one reader; all of them by default")
    parser.add_argument("--n", type=int, default=200_000, help="files a reader")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    names = [asked.target] if asked.target else list(targets())
    begin = time.perf_counter()
    with ProcessPoolExecutor(PARTS, initializer=use, initargs=(folder,)) as pool:
        work = list(parts(names, asked.n, asked.seed))
        found = list(pool.map(campaign, *zip(*work, strict=True)))
    for name in names:
        mine = [result for (target, _, _), result in zip(work, found, strict=True) if target == name]
        valid, refused, slowest = sum(r[0] for r in mine), sum(r[1] for r in mine), max(r[2] for r in mine)
        print(
            f"{name:12} {valid + refused:>9,} files: {valid:>8,} valid, {refused:>9,} refused, "
            f"slowest {slowest * 1e3:.0f} ms"
        )
    print(f"nothing else, in {time.perf_counter() - begin:.0f} s")


if __name__ == "__main__":
    main()
