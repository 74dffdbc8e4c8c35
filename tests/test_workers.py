"""The barrier, the stop flag, and workers that fail."""

from __future__ import annotations

import os
import signal
import threading
import time
import warnings
from typing import Any

import llvmlite.binding as llvm
import numpy as np
import pytest

from fastnn.errors import RunError
from fastnn.kernels.barrier import PAUSES, STOP, Team, barrier, new_team, owned, stopped
from fastnn.kernels.jit import kernel, standalone
from fastnn.kernels.workers import Workers


@kernel
def meet(steps, seen, late, team):
    """Each thread writes its step, waits, and checks what the others wrote: a barrier that leaks is seen."""
    for step in range(steps):
        seen[step % 2, team.thread] = step
        barrier(team)
        if stopped(team):
            return step
        for other in range(team.threads):
            if seen[step % 2, other] != step:
                late[0] += 1
    return steps


@kernel
def leave(team):
    """Thread 1 stops the others and leaves; they return 7 instead of waiting for ever."""
    if team.thread == 1:
        team.sync[STOP] = 1
        return 0
    barrier(team)
    return 7 if stopped(team) else 1


@kernel
def fail(values, team):
    """Thread 1 raises; the others wait for it."""
    if team.thread == 1:
        raise ValueError("broken worker")
    barrier(team)
    return 7 if stopped(team) else 1


@pytest.mark.parametrize("threads", [1, 2, 3, 5, 8])
def test_no_thread_passes_a_barrier_before_all_have_come(threads: int) -> None:
    """Also with more threads than cores, where spinning alone would collapse."""
    seen, late = np.full((2, threads), -1), np.zeros(1, np.int64)
    with Workers(threads) as workers:
        for _ in range(3):
            assert workers.run(meet, 2_000, seen, late) == 2_000
    assert late[0] == 0


def test_stop_frees_those_who_wait() -> None:
    with Workers(3) as workers:
        assert workers.run(leave) == 7


def test_an_exception_in_a_worker_reaches_the_caller_and_frees_the_others() -> None:
    with Workers(3) as workers:
        for _ in range(2):
            with pytest.raises(ValueError, match="broken worker"):
                workers.run(fail, np.zeros(1))
        assert workers.run(leave) == 7


def slowly(broken: int, ended: list[int]) -> Any:
    """In place of a kernel: thread `broken` raises at once, the others take their time."""

    def work(team: Team) -> int:
        if team.thread == broken:
            raise ValueError("broken worker")
        if team.thread:
            time.sleep(0.1 * team.thread)
        ended.append(team.thread)
        return team.thread

    return work


@pytest.mark.parametrize("broken", [0, 1])
def test_no_worker_runs_on_after_another_failed(broken: int) -> None:
    """Or it would write to memory that is used again, and a cleared flag would leave it waiting for ever."""
    ended: list[int] = []
    with Workers(4) as workers:
        with pytest.raises(ValueError, match="broken worker"):
            workers.run(slowly(broken, ended))
        assert sorted(ended) == [thread for thread in range(4) if thread != broken]


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("sender", [0, 1])
def test_an_interrupt_waits_until_no_worker_runs(sender: int) -> None:
    """Whether it comes while the first thread works, or while it waits for the others."""
    ended: list[int] = []

    def work(team: Team) -> int:
        if team.thread == sender:
            os.kill(os.getpid(), signal.SIGINT)
        return int(slowly(-1, ended)(team))

    with Workers(3) as workers, pytest.raises(KeyboardInterrupt):
        try:
            workers.run(work)
        finally:
            assert sorted(ended) == [0, 1, 2]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
def test_a_forked_child_is_told_that_it_has_no_workers() -> None:
    with Workers(2) as workers:
        assert workers.run(slowly(-1, [])) == 0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads, from Python 3.12 on
            child = os.fork()
        if not child:
            code = 1
            try:
                signal.alarm(20)  # or a child that waits for ever would outlive the tests
                workers.run(slowly(-1, []))
            except RunError as error:
                code = 7 if "forked" in str(error) else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert workers.run(slowly(-1, [])) == 0


def test_no_work_is_left_to_begin_later_when_threads_cannot_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    begin, begun, ended = threading.Thread.start, list[int](), list[int]()

    def start(thread: threading.Thread) -> None:
        if begun:
            raise RuntimeError("can't start new thread")
        begun.append(1)
        begin(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    with Workers(3) as workers:
        with pytest.raises(RunError, match=r"3 threads can't be started .* Take fewer"):
            workers.run(slowly(-1, ended))
        assert ended == [1]


@pytest.mark.parametrize(
    ("triple", "instruction"), [("x86_64-unknown-linux-gnu", "pause"), ("aarch64-unknown-linux-gnu", "isb")]
)
def test_a_spin_loop_really_pauses(triple: str, instruction: str) -> None:
    """The machine code of other machines too, where this LLVM can write it."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    try:
        target = llvm.Target.from_triple(triple)
    except RuntimeError:
        pytest.skip(f"no {triple} in this LLVM")
    name, argument = PAUSES[triple.partition("-")[0]]
    kind, given = ("i32", f"i32 {argument}") if argument is not None else ("", "")
    text = f"declare void @{name}({kind})\ndefine void @f() {{ call void @{name}({given}) ret void }}"
    assembly = target.create_target_machine().emit_assembly(llvm.parse_assembly(text))
    assert [line.split()[0] for line in assembly.splitlines() if line.startswith("\t" + instruction)] == [instruction]


CALLABLE_OWNED = standalone(owned)


@pytest.mark.parametrize("threads", range(1, 9))
@pytest.mark.parametrize("panels", range(12))
def test_every_panel_has_one_owner(panels: int, threads: int) -> None:
    found = [p for t in range(threads) for p in range(*CALLABLE_OWNED(panels, Team(new_team().sync, t, threads)))]
    assert found == list(range(panels))


def test_a_function_for_kernels_only_says_so() -> None:
    with pytest.raises(TypeError, match=r"owned is compiled for kernels only; call .*standalone\(owned\)"):
        owned(4, new_team())
