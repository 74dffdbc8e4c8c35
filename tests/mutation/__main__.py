"""Try mutants of the package: ``python -m tests.mutation --mutants 400 --seed 0 --jobs 2``."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from . import campaign, report
from .campaign import Result
from .places import Mutant, draw

ROOT = Path(__file__).resolve().parent.parent.parent


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("--mutants", type=int, default=400, help="how many to draw")
    parser.add_argument("--seed", type=int, default=0, help="what to draw them by")
    parser.add_argument("--jobs", type=int, default=2, help="how many to try at once")
    parser.add_argument("--files", nargs="*", default=[], help="only these, such as fastnn/training/schedules.py")
    parser.add_argument("--tests", nargs="*", default=[], help="by these files only, such as tests/test_settings.py")
    parser.add_argument("--least", type=float, default=0.0, help="exit code 1 below this share, in percent")
    parser.add_argument("--work", type=Path, help="folder of a campaign; the same one again goes on with it")
    parser.add_argument("--result", type=Path, help="write the result here as well")
    asked = parser.parse_args()
    state = campaign.state_of(ROOT)
    name = "-".join(["fastnn-mutation", state, *(Path(file).stem for file in asked.tests)])
    work = asked.work or Path(tempfile.gettempdir()) / name
    print(f"in {work}", flush=True)
    campaign.prepare(work, os.environ.get("FASTNN_DATA"))
    mutants = draw(ROOT, asked.mutants, asked.seed, asked.files)
    begin = time.perf_counter()

    def tell(mutant: Mutant, result: Result) -> None:
        place = f"{mutant.place.file}:{mutant.place.line}"
        print(f"{result.outcome:9} {result.seconds:5.1f} s  {place}  {result.test}", flush=True)
        if result.outcome not in report.NOTICED:
            print("\n".join(report.diff(mutant)), flush=True)

    gathered = campaign.gather(ROOT, work, asked.tests)
    print(f"{len(gathered.tests)} tests pass, {gathered.failed} fail and are left out")
    campaign.run_all(ROOT, work, gathered, mutants, asked.jobs, tell)
    known = dict(campaign.results(work))
    found = [(mutant, known[campaign.key(mutant)]) for mutant in mutants]
    found = campaign.confirmed(ROOT, work, gathered, found)
    text = report.write(found, report.reasons(), f"{len(mutants)} mutants of state {state}, seed {asked.seed}")
    if asked.result:
        asked.result.write_text(text, encoding="utf-8")
    print(text)
    print(f"{time.perf_counter() - begin:.0f} s")
    noticed = sum(result.outcome in report.NOTICED for _, result in found)
    return 0 if 100 * noticed >= asked.least * len(found) else 1


sys.exit(main())
