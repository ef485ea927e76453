"""The error for invalid input, which the user can fix."""

import re
from collections.abc import Mapping
from typing import Any

LONGEST = 600
"""Maximum length of an error message in characters: two sentences of 300."""

_LONGEST_WORD = 200  # such as a path; a longer one is cut to _CUT_WORD
_CUT_WORD = 120
_BREAKING = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")  # lines, terminals, encodings
_LONG_WORD = re.compile(rf"\S{{{_LONGEST_WORD + 1},}}")


class InputError(ValueError):
    """Something that the user gave is invalid.

    The message is one line: what was expected, what was found and how to fix it. The commands print it without a
    traceback; every other exception is a bug and keeps its traceback. Control characters in the message are escaped,
    and very long words and messages lose their middle.
    """

    def __init__(self, text: str = ""):
        text = _BREAKING.sub(lambda found: ascii(found[0])[1:-1], text)
        text = _LONG_WORD.sub(lambda found: _without_middle(found[0], _CUT_WORD), text)
        super().__init__(_without_middle(text, LONGEST))


def shown(value: Any, longest: int = 80) -> str:
    """Formats a value on one line, cut after `longest` characters; a string has its quotes and escapes."""
    try:
        text = " ".join(repr(value).splitlines())
    except Exception:  # such as an integer of more digits than Python converts
        text = f"a value of type {type(value).__name__}"
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def exactly_one(given: Mapping[str, bool]) -> None:
    """Raises InputError unless one of two arguments is given; maps their names, as the user writes them."""
    if sum(given.values()) != 1:
        found, fix = ("both", "Omit one") if any(given.values()) else ("neither", "Give one")
        raise InputError(f"Exactly one of {' and '.join(given)} must be given, got {found}. {fix}.")


def _without_middle(text: str, longest: int) -> str:
    """Cuts the middle of a long text: the end of a path names the file, the end of a message the fix."""
    half = (longest - 3) // 2
    return text if len(text) <= longest else f"{text[:half]}...{text[-half:]}"
