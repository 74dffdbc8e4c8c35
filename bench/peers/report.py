"""The tables of README.md, docs/speed.md and bench/README.md, and the picture, made from results.json."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
PICTURE = ROOT / "bench" / "peers" / "ratios.png"
# colours that people with any kind of colour vision tell apart (Okabe and Ito 2008)
COLOURS = ("#999999", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7")
MINE = "fastnn"
Row = dict[str, Any]
# what the README shows of it
SHORT_WORKS = (
    *("784-128-10, 64", "784-128-128-10, 64", "784-512-512-10, 128", "784-2048-2048-10, 256"),
    *("tabular 20-64-64-2, 256", "one-hot 2000-128-2, 256"),
)
SHORT_SIDES = ("scikit-learn", "Keras/TensorFlow", "torch eager", "torch.compile", "JAX jitted scan")


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    from fastnn.kernels.host import cpu_name, host_lanes

    return {"cpu": cpu_name(), "cores": len(os.sched_getaffinity(0)), "float32_lanes": host_lanes()}


def peers(rows: list[Row]) -> list[str]:
    """The names of all sides but ours, in the order they were asked."""
    return list(dict.fromkeys(name for row in rows for name in row["sides"] if name != MINE))


def ratio(row: Row, name: str) -> float | None:
    """How many times longer a side takes than fastnn; None where it did not do that work."""
    side = row["sides"].get(name)
    return side["seconds"] / row["sides"][MINE]["seconds"] if side else None


def table(rows: list[Row]) -> str:
    """Ratios of the fastest epochs, and what every side reached."""
    names = peers(rows)
    lines = [
        f"| layers, batch | fastnn | {' | '.join(names)} | test accuracy: fastnn, others |",
        "|---|---|" + "---|" * (len(names) + 1),
    ]
    for row in rows:
        others = [side["accuracy"] for name, side in row["sides"].items() if name != MINE]
        reached = f"{row['sides'][MINE]['accuracy']:.1%}, {min(others):.1%} to {max(others):.1%}"
        lines.append(f"| {row['work']} | {_seconds(row)} | {_ratios(row, names)} | {reached} |")
    return "\n".join(lines)


def short_table(rows: list[Row]) -> str:
    """Some of these ratios, for a first look."""
    lines = [f"| layers, batch | fastnn | {' | '.join(SHORT_SIDES)} |", "|---|---|" + "---|" * len(SHORT_SIDES)]
    for row in (row for row in rows if row["work"] in SHORT_WORKS):
        lines.append(f"| {row['work']} | {_seconds(row)} | {_ratios(row, SHORT_SIDES)} |")
    return "\n".join(lines)


def _seconds(row: Row) -> str:
    seconds = row["sides"][MINE]["seconds"]
    return f"{seconds * 1e3:.1f} ms" if seconds < 0.1 else f"{seconds:.2f} s"


def _ratios(row: Row, names: Sequence[str]) -> str:
    found = [ratio(row, name) for name in names]
    return " | ".join(f"{r:.1f}x" if r else "-" for r in found)


def grid_table(rows: list[Row]) -> str:
    """How many times longer the fastest peer takes, by batch and width and depth, and which one that is."""
    depths = sorted({len(row["sizes"]) - 2 for row in rows})
    cells: dict[tuple[int, int], dict[int, str]] = {}
    for row in rows:
        found = {name: r for name in peers(rows) if (r := ratio(row, name)) is not None}
        best = min(found, key=lambda name: found[name])
        cells.setdefault((row["batch"], row["sizes"][1]), {})[len(row["sizes"]) - 2] = f"{found[best]:.1f}x {best}"
    heads = " | ".join(f"{depth} hidden" for depth in depths)
    lines = [f"| batch, width | {heads} |", "|---|" + "---|" * len(depths)]
    for (batch, width), by_depth in cells.items():
        lines.append(f"| {batch}, {width} | {' | '.join(by_depth.get(depth, '-') for depth in depths)} |")
    return "\n".join(lines)


def until_table(held: dict[str, Any]) -> str:
    """Seconds from the start of a process until the goal was reached."""
    mine = held["sides"][MINE]["seconds"]
    lines = ["| | seconds | times fastnn | epochs |", "|---|---|---|---|"]
    for name, side in held["sides"].items():
        lines.append(f"| {name} | {side['seconds']:.1f} | {side['seconds'] / mine:.1f}x | {side['epochs']} |")
    return "\n".join(lines)


def about(held: dict[str, Any]) -> str:
    """Machine, threads and versions in a line."""
    part = held["table"]
    versions = ", ".join(f"{name} {version}" for name, version in part["versions"].items())
    return f"{part['threads']} threads of {held['machine']['cpu']}; fastest of {part['rounds']} rounds. {versions}."


def picture(rows: list[Row], path: Path) -> None:
    """Bars of the ratios, on a logarithmic scale; the line is fastnn."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    names = peers(rows)
    figure, axes = pyplot.subplots(figsize=(9, 0.16 * len(rows) * (len(names) + 1.5) + 1), layout="constrained")
    place = 0.0
    ticks = []
    for row in rows:
        ticks.append((place + (len(names) - 1) / 2, row["work"]))
        for name in names:
            value = ratio(row, name)
            if value:
                colour = COLOURS[names.index(name) % len(COLOURS)]
                axes.barh(place, value - 1, left=1, height=0.9, color=colour, label=name if row is rows[0] else None)
                axes.text(value * 1.03, place, f"{value:.1f}", va="center", fontsize=7)
            place += 1
        place += 1.5
    axes.set_xscale("log")
    axes.set_xlim(0.9, None)
    axes.margins(x=0.08)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_yticks([at for at, _ in ticks], [name for _, name in ticks])
    axes.set_ylim(place - 1, -1)
    shown = [1, 2, 5, 10, 20, 50, 100]
    axes.set_xticks(shown, [f"{n}x" for n in shown])
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("time of one epoch, times fastnn's (1x, the line)")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.legend(loc="center right", bbox_to_anchor=(1, 0.4), fontsize=9)  # beside the shortest bars
    figure.savefig(path, dpi=110)


def put(path: Path, name: str, text: str) -> None:
    """Replace what stands between the markers of that name in a file."""
    content = path.read_text()
    before, begin, rest = content.partition(f"<!-- {name}: made by python -m bench.peers report -->\n")
    _, end, after = rest.partition(f"<!-- {name}: end -->")
    if not begin or not end:
        raise SystemExit(f"{path} has no place for {name}")
    path.write_text(f"{before}{begin}{text}\n{end}{after}")


def write(held: dict[str, Any]) -> None:
    """Bring the pages and the picture up to date."""
    speed, bench = ROOT / "docs" / "speed.md", ROOT / "bench" / "README.md"
    put(ROOT / "README.md", "peers-short", short_table(held["table"]["rows"]))
    put(speed, "peers", table(held["table"]["rows"]))
    put(speed, "until", until_table(held["until"]))
    put(bench, "machine", about(held))
    put(bench, "grid", grid_table(held["grid"]["rows"]))
    picture(held["table"]["rows"], PICTURE)
