"""The error that is a user's to mend."""

import re
from typing import Any

LONGEST = 600
"""Characters of an error's text: two sentences of 300."""

_LONGEST_WORD = 200  # such as a path; a longer one is cut to _CUT_WORD
_CUT_WORD = 120
_BREAKING = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")  # lines, terminals, encodings
_LONG_WORD = re.compile(rf"\S{{{_LONGEST_WORD + 1},}}")


class InputError(ValueError):
    """Something given from outside cannot be used.

    The message is one line for the user: what was wanted, what was found and what to do. The commands print it
    without a traceback; every other exception is a defect of ours and keeps its traceback. Whatever was given stands
    in it with its control characters escaped, and without its middle where it is very long.
    """

    def __init__(self, text: str = ""):
        text = _BREAKING.sub(lambda found: ascii(found[0])[1:-1], text)
        text = _LONG_WORD.sub(lambda found: _without_middle(found[0], _CUT_WORD), text)
        super().__init__(_without_middle(text, LONGEST))


def shown(value: Any, longest: int = 80) -> str:
    """A value in one line of a sentence, cut after `longest` characters; a text has its quotes, and escapes."""
    try:
        text = " ".join(repr(value).splitlines())
    except Exception:  # such as an integer of more digits than Python converts
        text = f"a value of type {type(value).__name__}"
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def _without_middle(text: str, longest: int) -> str:
    """The text, or its beginning and end: of a path the end says which file, of a sentence what to do."""
    half = (longest - 3) // 2
    return text if len(text) <= longest else f"{text[:half]}...{text[-half:]}"
