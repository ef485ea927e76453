"""The error that is a user's to mend."""


class InputError(ValueError):
    """Something given from outside cannot be used.

    Its text is one sentence for the person who gave it: what was wanted, what was found, what to do. The commands
    print it without a traceback; every other exception is a defect of ours and keeps its traceback.
    """
