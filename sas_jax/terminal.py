"""The standard streams of a command, which may be closed, broken or of ASCII."""

import contextlib
import os
import select
import sys
from collections.abc import Iterator

EXIT_BROKEN_PIPE = 141  # as shells have it for a program that SIGPIPE ended


def prepare() -> None:
    """Makes the standard streams safe to use; for the beginning of a command.

    A closed one leads to nowhere. Without that, the first file opened would get its number, and what libraries print.
    Characters that a stream cannot show are escaped, and end no command. Where the locale's encoding is not UTF-8 the
    command is started again in Python's UTF-8 mode, so that files have the same names under every locale.
    """
    if sys.getfilesystemencoding() != "utf-8" and os.environ.get("PYTHONUTF8") != "1":
        os.environ["PYTHONUTF8"] = "1"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), "w" if number else "r"))
        elif number and not (stream.encoding == "utf-8" and stream.errors == "surrogateescape"):
            stream.reconfigure(errors="backslashreplace")


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """Ends the command without a word where nobody reads what the block prints any more (`... | head`)."""
    broken = False
    try:
        yield
    except BrokenPipeError:
        if not any(map(_has_no_reader, (1, 2))):
            raise
        broken = True
    finally:
        try:
            sys.stdout.flush()
        except OSError:  # the interpreter would try once more at its end, and complain
            _discard()
    if broken:
        _discard()
        sys.exit(EXIT_BROKEN_PIPE)


def _has_no_reader(number: int) -> bool:
    poll = select.poll()
    poll.register(number, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _discard() -> None:
    """Lets standard output and error lead to nowhere from now on, where they are broken or full."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for number in (1, 2):
        if number == 1 or _has_no_reader(number):
            os.dup2(nowhere, number)
