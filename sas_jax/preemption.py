"""SIGTERM: what a machine says that is about to be taken away, and what a scheduler sends before it kills.

A training run saves and then ends; whatever else is at work ends at once, for all that is finished is on disk. Either
way the exit code says that the same command goes on.
"""

import contextlib
import signal
import types
from collections.abc import Callable, Iterator

EXIT_PREEMPTED = 75  # EX_TEMPFAIL of sysexits.h: run the same command again

_asked = False
_deferred = 0


class Preempted(BaseException):
    """The process was asked to end. No Exception, so that nothing that handles mistakes catches it."""


def listen() -> None:
    """From now on SIGTERM raises `Preempted`, or waits where it is deferred. For the main thread of a command."""
    signal.signal(signal.SIGTERM, _on_sigterm)


@contextlib.contextmanager
def deferred() -> Iterator[Callable[[], bool]]:
    """Within the block SIGTERM raises nothing; what the block gets says whether it came. At its end nothing is raised.

    Whoever defers has to ask, and to raise `Preempted` when it is a good moment.
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
