"""Handles SIGTERM, which preempted machines and schedulers send before they kill a process.

Training saves a checkpoint and then ends; other work ends at once, because finished results are already on disk. In
both cases the exit code says that the same command resumes the run.
"""

import contextlib
import signal
import types
from collections.abc import Callable, Iterator

EXIT_PREEMPTED = 75  # EX_TEMPFAIL of sysexits.h: run the same command again

_asked = False
_deferred = 0


class Preempted(BaseException):
    """Raised when the process is asked to end. Not an Exception, so that error handlers do not catch it."""


def listen() -> None:
    """Makes SIGTERM raise `Preempted`, except where it is deferred. For the main thread of a command."""
    signal.signal(signal.SIGTERM, _on_sigterm)


@contextlib.contextmanager
def deferred() -> Iterator[Callable[[], bool]]:
    """Keeps SIGTERM from raising within the block; yields a function that returns whether it has arrived.

    Nothing is raised at the end of the block: the caller must check, and raise `Preempted` at a suitable point.
    """
    global _deferred
    _deferred += 1
    try:
        yield lambda: _asked
    finally:
        _deferred -= 1


def _on_sigterm(number: int, frame: types.FrameType | None) -> None:
    del number, frame
    global _asked
    _asked = True
    if not _deferred:
        raise Preempted
