"""A function run in a forked child, so that a damaged file that crashes a C library costs one library and not the run.

A fork starts in milliseconds and imports nothing again; memory is shared until either side writes to it.
"""

from __future__ import annotations

import faulthandler
import gc
import logging
import os
import pickle
import resource
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

# What the C libraries die of when a file misleads them. Every other signal comes from outside.
_CRASHES = (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE, signal.SIGILL)
REMEDY = "the file is damaged: compare its checksum with the original and copy it again"


class ReaderCrashed(ValueError):
    """The guarded function died of what it read; the message is for the user."""


class ReaderStopped(RuntimeError):
    """The guarded function was stopped from outside, which says nothing about the file: the job should run again."""


def run_guarded(
    function: Callable[..., Result], *args: Any, timeout_seconds: float | None = None, **kwargs: Any
) -> Result:
    """Run a function in a forked child and hand back what it returns or raises.

    Parameters
    ----------
    function, args, kwargs
        What to run. Its result goes through a pipe, so it should be small; objects that it changes stay unchanged here.
    timeout_seconds
        Processor time that the child may take, None for no limit. Time spent waiting (for a slow disk, a busy or a
        sleeping machine) does not count: only a library that goes round in circles should be stopped.

    Raises
    ------
    ReaderCrashed
        A ValueError: the child crashed (SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL), asked for more memory than it can
        get, or used up its time. Callers check the sizes that a file declares before they ask for memory, so what is
        left is damage.
    ReaderStopped
        A RuntimeError: any other signal ended the child. SIGKILL is what the system sends where memory is short, and
        what a scheduler sends; neither is the fault of the file, so the job fails and may be repeated with more memory.
        The same holds for a failed request for memory where the system limits the address space (``ulimit -v``).
    Exception
        Whatever the function raised, with the child's traceback as a note.
    """
    receiver, sender = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    with warnings.catch_warnings():
        # Python 3.12 and later warn wherever another thread lives, as one of OpenBLAS or of Arrow may; both libraries
        # prepare for a fork, and the child starts no thread that it inherited.
        warnings.filterwarnings("ignore", message=".*multi-threaded, use of fork", category=DeprecationWarning)
        child = os.fork()
    if not child:
        os.close(receiver)
        _serve(sender, function, args, kwargs, timeout_seconds)
    os.close(sender)
    try:
        with os.fdopen(receiver, "rb") as stream:
            content = stream.read()
    except BaseException:
        os.kill(child, signal.SIGKILL)
        raise
    finally:
        _, status = os.waitpid(child, 0)
    return _outcome(content, os.waitstatus_to_exitcode(status), timeout_seconds)


def _serve(
    sender: int, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], seconds: float | None
) -> None:
    """Run the function in the child, send its outcome and end the process without any clean-up of the parent's."""
    status = 1
    try:
        gc.freeze()  # a collection would otherwise copy every page of the parent's objects
        faulthandler.disable()  # the parent says in words what happened
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would hold patients' data
        if seconds is not None:
            _, hardest = resource.getrlimit(resource.RLIMIT_CPU)
            resource.setrlimit(resource.RLIMIT_CPU, (max(1, round(seconds)), hardest))
        try:
            content = pickle.dumps((True, function(*args, **kwargs)))
        except BaseException as error:
            content = _packed(error)
        sys.stdout.flush()
        sys.stderr.flush()
        with os.fdopen(sender, "wb") as stream:
            stream.write(content)
        status = 0
    finally:
        os._exit(status)


def _packed(error: BaseException) -> bytes:
    """An exception as bytes; one that can't be rebuilt on the other side is replaced by a plain one of its kind."""
    note = "In the child process:\n" + "".join(traceback.format_exception(error))
    try:
        error.add_note(note)
        content = pickle.dumps((False, error))
        if str(pickle.loads(content)[1]) == str(error):
            return content
    except Exception:
        logger.debug("%s can't be pickled", type(error).__name__, exc_info=True)
    kind = next((kind for kind in (ValueError, OSError) if isinstance(error, kind)), RuntimeError)
    plain = kind(str(error) or type(error).__name__)
    plain.add_note(note)
    return pickle.dumps((False, plain))


def _outcome(content: bytes, code: int, seconds: float | None) -> Any:
    if code == -signal.SIGXCPU and seconds is not None:
        raise ReaderCrashed(f"reading did not come to an end within {seconds:.0f} s of computing; {REMEDY}")
    if -code in _CRASHES:
        raise ReaderCrashed(f"reading crashed the reader ({signal.Signals(-code).name}); {REMEDY}")
    if code or not content:
        cause = signal.Signals(-code).name if code < 0 else f"exit status {code}"
        raise ReaderStopped(
            f"the reader was stopped from outside ({cause}), as the system does where memory is short: give it more"
        )
    returned, value = pickle.loads(content)
    if returned:
        return value
    if isinstance(value, MemoryError):
        if resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY:
            raise ReaderStopped(f"the limit of the address space (ulimit -v) is too low: {value}") from value
        raise ReaderCrashed(f"reading asked for more memory than there is ({value}); {REMEDY}") from value
    raise value
