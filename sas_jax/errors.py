"""The error that is a user's to mend."""

from typing import Any


class InputError(ValueError):
    """Something given from outside cannot be used.

    Its text is one sentence for the person who gave it: what was wanted, what was found, what to do. The commands
    print it without a traceback; every other exception is a defect of ours and keeps its traceback.
    """


def shown(value: Any, longest: int = 80) -> str:
    """A value in one line of a sentence, cut after `longest` characters; a text has its quotes, and escapes."""
    try:
        text = " ".join(repr(value).splitlines())
    except Exception:  # such as an integer of more digits than Python converts
        text = f"a value of type {type(value).__name__}"
    return text if len(text) <= longest else f"{text[: longest - 3]}..."
