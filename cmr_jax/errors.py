"""The one exception that is meant for the person at the keyboard."""


class InputError(ValueError):
    """What the user gave cannot be used.

    The message is one line that says what was wrong, where, and what to do. Binaries print it and exit 2;
    anything else that escapes is a bug of ours and keeps its traceback. Never put a patient's name, id or
    source path in it.
    """
