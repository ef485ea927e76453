"""Progress of a long computation on stderr: one rewritten line on a terminal, a line every 10 s elsewhere."""

import collections
import sys
import time
from collections.abc import Callable
from typing import TextIO

_QUIET_SECONDS = 2.0  # shorter computations need no progress
_WINDOW_SECONDS = 10.0  # the rate is measured over these, as it changes over a run
_LINE_SECONDS = 10.0  # between the lines of a log


class Progress:
    """Shows how much is done, the rate and the time left; nothing in the first two seconds.

    Use as `with Progress("ranked") as progress: ...`, which ends the terminal's line even after an exception.
    """

    def __init__(self, what: str, *, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic):
        """Starts the clock.

        Args:
            what: the word before the numbers.
            stream: the output; stderr by default.
            clock: returns seconds from any origin.
        """
        self._what = what
        self._stream = sys.stderr if stream is None else stream
        self._clock = clock
        self._began = clock()
        self._told: float | None = None
        self._reports: collections.deque[tuple[float, int]] = collections.deque()
        self._width = 0

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        if self._width:
            print(file=self._stream, flush=True)

    def __call__(self, done: int, total: int) -> None:
        """Reports `done` of `total`."""
        now = self._clock()
        self._reports.append((now, done))
        while len(self._reports) > 2 and self._reports[1][0] <= now - _WINDOW_SECONDS:
            self._reports.popleft()
        if now - self._began < _QUIET_SECONDS:
            return
        if self._stream.isatty():
            text = self._line(done, total)
            print("\r" + text.ljust(self._width), end="", file=self._stream, flush=True)
            self._width = len(text)
        elif self._told is None or now - self._told >= _LINE_SECONDS:
            print(self._line(done, total), file=self._stream, flush=True)
            self._told = now

    def _line(self, done: int, total: int) -> str:
        text = f"{self._what} {done:,} of {total:,} ({100 * done // max(total, 1)} %)"
        (began, first), (now, _) = self._reports[0], self._reports[-1]
        if done <= first or now <= began:
            return text  # there is no rate yet
        rate = (done - first) / (now - began)
        return f"{text}, {_rate(rate)}, {duration((total - done) / rate)} left"


def _rate(each_second: float) -> str:
    return f"{each_second:,.0f} a second" if each_second >= 10 else f"{each_second:.2g} a second"


def duration(seconds: float) -> str:
    """Formats seconds: 12 s, 34 min, 5.6 h, 7.8 days."""
    whole = round(seconds)
    if whole < 7200:
        return f"{whole} s" if whole < 120 else f"{round(whole / 60)} min"
    return f"{whole / 3600:.1f} h" if whole < 172_800 else f"{whole / 86_400:.1f} days"
