"""Which tests can notice a mutant, the ones that find it soonest first."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coverage.numbits import numbits_to_nums

from .places import Place

# Coverage does not see compiled code. Beginnings of the names of tests that run a module's kernels, quickest first;
# what trains a whole network comes last, since it compiles for seconds.
_WHOLE = (
    "tests/test_gradients.py::test_the_gradient_alone",
    "tests/test_gradients.py::test_a_gradient_is_the_sum",
    "tests/test_gradients.py::test_gradients_of_uint8_input_by_name",
    "tests/test_gradients.py::test_the_reference",
    "tests/test_gradients.py::test_every_parameter_moves_in_a_step",
    "tests/test_training.py",
    "tests/test_gradients.py::test_all_gradients_within_their_bounds",
    "tests/test_inference.py::test_the_engines",
    "tests/test_inference.py::test_threads",
)
_OPTIMIZERS = ("tests/test_optimizers.py", "tests/test_settings.py")
_SPARSE = ("tests/test_inputs.py",)


def _of_kernels(*names: str) -> tuple[str, ...]:
    return tuple(f"tests/test_kernels.py::test_{name}" for name in names)


def _of_twins(*names: str) -> tuple[str, ...]:
    return tuple(f"tests/test_twins.py::test_{name}" for name in names)


KERNEL_TESTS = {
    "activations": (*_of_twins("pairs_of_activations"), *_of_kernels("activations", "masks"), *_WHOLE, *_OPTIMIZERS),
    "augment": (*_of_twins("pictures_step", "noise", "gaussians", "product"), "tests/test_augment.py"),
    "barrier": ("tests/test_workers.py", *_WHOLE),
    "batch": (*_of_kernels("gather"), *_WHOLE),
    "dense": (*_of_kernels("dense", "relu", "transpose", "weight_gradient", "input_gradient"), *_WHOLE),
    "functions": (*_of_twins("functions"), *_of_kernels("softmax", "losses", "activations"), *_WHOLE),
    "gradients": _WHOLE[:2],
    "layers": (*_WHOLE, *_SPARSE),
    "losses": (*_of_twins("pairs_of_losses"), *_of_kernels("softmax", "losses"), *_WHOLE, *_OPTIMIZERS),
    "memory": (*_WHOLE, *_OPTIMIZERS, *_SPARSE),
    "optimizers": (*_of_twins("steps_of", "parts_of"), "tests/test_optimizers.py::test_fifty", *_OPTIMIZERS, *_WHOLE),
    "output": (*_of_kernels("logits", "output_gradients"), *_WHOLE),
    "random": (*_of_twins("random_numbers", "the_limit"), *_of_kernels("shuffle", "masks"), "tests/test_datasets.py"),
    "sparse": (*_of_kernels("sparse_input"), *_SPARSE, *_WHOLE),
    "step": (*_WHOLE, *_OPTIMIZERS, *_SPARSE),
    "strokes": ("tests/test_datasets.py",),
    "updates": (*_of_twins("parts_of"), *_OPTIMIZERS, *_WHOLE),
}
# Coverage does not see either what reads defaults and limits without running their lines.
READERS = (
    "tests/test_defaults.py",
    "tests/test_settings.py::test_their_page_lists_every_setting_as_it_is",
    "tests/test_cli.py::test_every_option_of_a_setting_reaches_it",
)
BUDGET = 25.0  # seconds of tests, by their times without mutants: of what is still alive then, nearly all survives


@dataclass
class Gathered:
    """What one run of the suite without mutants has shown.

    Attributes
    ----------
    tests : dict
        Of each test that passes: its own ``seconds`` and the ``shared`` fixtures it uses.
    fixtures : dict
        Seconds of each shared fixture.
    lines : dict
        Of each file, line → the tests that run it, and those that use a shared fixture that does.
    failed : int
        How many tests fail.
    """

    tests: dict[str, dict[str, Any]]
    fixtures: dict[str, float]
    lines: dict[str, dict[int, set[str]]]
    failed: int = 0

    def seconds(self, test: str) -> float:
        """Of a test that runs alone."""
        return self.tests[test]["seconds"] + sum(self.fixtures.get(name, 0.0) for name in self.tests[test]["shared"])


def read(outcome: dict[str, Any], data: Path, tree: Path) -> Gathered:
    """The plugin's results and coverage's data, for files below `tree`."""
    tests = {name: test for name, test in outcome["tests"].items() if test["passed"]}
    users = defaultdict(set)
    for name, test in tests.items():
        for fixture in test["shared"]:
            users[fixture].add(name)
    lines: dict[str, dict[int, set[str]]] = defaultdict(lambda: defaultdict(set))
    query = (
        "select path, context, numbits from line_bits "
        "join file on file.id = file_id join context on context.id = context_id"
    )
    with sqlite3.connect(data) as base:
        for path, context, numbits in base.execute(query):
            name = context if context in users else context.rpartition(" (")[0] or context  # "… (call)" of processes
            found = users[name] if name in users else {name} & tests.keys()
            for line in numbits_to_nums(numbits):
                lines[Path(path).relative_to(tree).as_posix()][line] |= found
    return Gathered(tests, outcome["fixtures"], lines, len(outcome["tests"]) - len(tests))


def choose(place: Place, gathered: Gathered, budget: float = BUDGET) -> list[str]:
    """Tests for a mutant of `place`, in the order to run them, of at most `budget` seconds together."""
    module = Path(place.file).stem
    if place.compiled and module in KERNEL_TESTS:
        fitting = [test for start in KERNEL_TESTS[module] for test in gathered.tests if test.startswith(start)]
        return _affordable(dict.fromkeys(fitting), gathered, budget)
    lines = gathered.lines.get(place.file, {})
    first, last = place.function
    on_the_line = lines.get(place.line, set()) if last else set()
    around = {test for line, tests in lines.items() if not last or first <= line <= last for test in tests}
    readers = {test for test in gathered.tests if test.startswith(READERS)}
    order = (on_the_line, readers - on_the_line, around - on_the_line - readers)
    return _affordable([test for tests in order for test in _soonest(tests, gathered)], gathered, budget)


def _affordable(tests: Iterable[str], gathered: Gathered, budget: float) -> list[str]:
    """Those that fit into the budget, at least one; a shared fixture is paid for once."""
    chosen: list[str] = []
    paid: set[str] = set()
    for test in tests:
        new = set(gathered.tests[test]["shared"]) - paid
        cost = gathered.tests[test]["seconds"] + sum(gathered.fixtures.get(name, 0.0) for name in new)
        if not chosen or cost <= budget:
            chosen.append(test)
            paid |= new
            budget -= cost
    return chosen


def _soonest(tests: set[str], gathered: Gathered) -> list[str]:
    """By time; but tests of one file that share a fixture stay together, or it would be made several times."""
    groups: dict[Any, list[str]] = defaultdict(list)
    for test in sorted(tests, key=lambda test: (gathered.tests[test]["seconds"], test)):
        shared = [name for name in gathered.tests[test]["shared"] if gathered.fixtures.get(name, 0.0) > 0.1]
        groups[(test.partition("::")[0], *shared) if shared else test].append(test)
    return [test for group in sorted(groups.values(), key=lambda group: gathered.seconds(group[0])) for test in group]
