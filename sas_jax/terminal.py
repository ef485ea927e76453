"""Safe standard streams for commands: they may be closed, broken or ASCII-only."""

import contextlib
import os
import select
import sys
from collections.abc import Iterator

EXIT_BROKEN_PIPE = 141  # what shells report for a program ended by SIGPIPE


def prepare() -> None:
    """Makes the standard streams safe to use; called at the start of a command.

    A closed stream is redirected to /dev/null; otherwise the first file opened would get its file descriptor, and the
    output of libraries. Characters that a stream cannot encode are escaped. If the locale's encoding is not UTF-8, the
    command restarts in Python's UTF-8 mode, so that files have the same names under every locale.
    """
    if sys.getfilesystemencoding() != "utf-8" and os.environ.get("PYTHONUTF8") != "1":
        os.environ["PYTHONUTF8"] = "1"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free descriptor
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), "w" if number else "r"))
        elif number and not (stream.encoding == "utf-8" and stream.errors == "surrogateescape"):
            stream.reconfigure(errors="backslashreplace")


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """Exits silently if the reader of the block's output is gone (`... | head`)."""
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
        except OSError:  # the interpreter would flush again at exit and print an error
            _discard()
    if broken:
        _discard()
        sys.exit(EXIT_BROKEN_PIPE)


def _has_no_reader(number: int) -> bool:
    poll = select.poll()
    poll.register(number, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _discard() -> None:
    """Redirects standard output, and standard error if it is broken, to /dev/null."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for number in (1, 2):
        if number == 1 or _has_no_reader(number):
            os.dup2(nowhere, number)
