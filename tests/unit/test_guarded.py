"""A guarded function hands back what it returns or raises, and takes nobody with it when it dies."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import time
import traceback
import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from scipy.io import mmread, mmwrite
from threadpoolctl import threadpool_limits

from livermet import guarded
from livermet.guarded import ReaderCrashed, ReaderStopped, run_guarded


def no_child_is_left():
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_results_come_back_and_nothing_changes_here():
    seen = []

    def append(*values, factor):
        seen.extend(values)
        return np.arange(3_000_000) * factor

    result = run_guarded(append, 1, 2, factor=2)
    assert result.sum() == 2 * 3_000_000 * 2_999_999 / 2 and seen == []
    assert run_guarded(lambda: None) is None
    no_child_is_left()


class Odd(ValueError):
    """Can't be built again from its arguments."""

    def __init__(self, place, problem):
        super().__init__(f"{place}: {problem}")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ValueError("a.h5: damaged"), ValueError),
        (FileNotFoundError(2, "no such file", "a.h5"), FileNotFoundError),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"), ValueError),
        (KeyError("bug"), KeyError),
        (Odd("a.h5", "odd"), ValueError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
def test_exceptions_come_back_with_their_traceback(error, kind):
    def fail():
        raise error

    with pytest.raises(kind) as caught:
        run_guarded(fail)
    assert str(caught.value) == str(error) and not isinstance(caught.value, ReaderCrashed)
    assert "in fail" in "".join(traceback.format_exception(caught.value))
    no_child_is_left()


def test_a_crash_is_told_as_damage_of_the_file():
    with pytest.raises(ReaderCrashed, match=r"crashed the reader \(SIGSEGV\).*compare its checksum.*copy it again"):
        run_guarded(ctypes.string_at, 0)
    with pytest.raises(ValueError, match="SIGABRT"):
        run_guarded(os.abort)
    for sent in (signal.SIGBUS, signal.SIGFPE, signal.SIGILL):
        with pytest.raises(ReaderCrashed, match=sent.name):
            run_guarded(lambda sent=sent: os.kill(os.getpid(), sent))
    no_child_is_left()


def test_what_is_stopped_from_outside_says_nothing_about_the_file():
    for sent in (signal.SIGKILL, signal.SIGTERM):
        with pytest.raises(ReaderStopped, match=f"{sent.name}.*memory") as caught:
            run_guarded(lambda sent=sent: os.kill(os.getpid(), sent))
        assert not isinstance(caught.value, ValueError | OSError)
    with pytest.raises(ReaderStopped, match="exit status 3"):
        run_guarded(os._exit, 3)


def test_an_outcome_that_cannot_be_sent_is_no_result(monkeypatch):
    def unsendable(error):
        raise MemoryError

    monkeypatch.setattr(guarded, "_packed", unsendable)
    with pytest.raises(ReaderStopped, match="exit status 1"):
        run_guarded(unsendable, ValueError("damaged"))


def test_absurd_requests_for_memory_are_damage_unless_the_system_sets_a_limit():
    with pytest.raises(ReaderCrashed, match="more memory than there is"):
        run_guarded(np.ones, 2**55)
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (2**45, before[1]))
    try:
        with pytest.raises(ReaderStopped, match="address space"):
            run_guarded(np.ones, 2**55)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def test_only_computing_counts_as_time():
    def turn():
        while True:
            pass

    with pytest.raises(ReaderCrashed, match="within 1 s of computing"):
        run_guarded(turn, timeout_seconds=1)
    assert run_guarded(lambda: time.sleep(1.5) or "done", timeout_seconds=1) == "done"


def test_an_interrupted_parent_ends_its_child():
    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        start = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            run_guarded(time.sleep, 60)
        assert time.monotonic() - start < 30
    finally:
        signal.signal(signal.SIGALRM, before)
    no_child_is_left()


@pytest.mark.parametrize("limits", [1, None])
def test_libraries_with_threads_work_before_and_after_the_fork(tmp_path, limits):
    rng = np.random.default_rng(0)
    square, target = rng.normal(size=(400, 400)), rng.normal(size=(400, 3))
    mmwrite(tmp_path / "a.mtx", sparse.coo_matrix(rng.poisson(0.1, size=(300, 200))))
    pd.DataFrame(square[:, :4], columns=list("abcd")).to_parquet(tmp_path / "a.parquet")

    def work():
        solved = np.linalg.lstsq(square, square @ target, rcond=None)[0]
        table = pd.read_parquet(tmp_path / "a.parquet")
        return float(solved.sum()), int(mmread(tmp_path / "a.mtx").sum()), float(table.to_numpy().sum())

    with threadpool_limits(limits=limits):
        here = work()
        assert run_guarded(work, timeout_seconds=60) == here
        assert work() == here


def test_the_warning_of_a_fork_among_threads_is_no_error_and_others_are(monkeypatch):
    fork, message = os.fork, "This process (pid=1) is multi-threaded, use of fork() may lead to deadlocks in the child."

    def warn():
        warnings.warn(message, DeprecationWarning, stacklevel=2)
        return fork()

    monkeypatch.setattr(os, "fork", warn)
    assert run_guarded(int, 3) == 3

    message = "something else"
    with pytest.raises(DeprecationWarning, match="something else"):
        run_guarded(int, 3)


def test_output_is_written_once(capfd):
    print("parent", end=" ")
    run_guarded(print, "child")
    print("parent")
    assert capfd.readouterr().out == "parent child\nparent\n"
