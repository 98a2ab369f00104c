"""The one exception that is meant for the person at the keyboard, and the help it gives with a mistyped name."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """What the user gave cannot be used.

    The message is one line that says what was wrong, where, and what to do. Binaries print it and exit 2;
    anything else that escapes is a bug of ours and keeps its traceback. Never put a patient's name, id or
    source path in it.
    """


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of an error message: the known name closest to `name`, and all of them."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return (f"; did you mean {close[0]!r}?" if close else "") + f" (known: {', '.join(names) or 'none'})"
