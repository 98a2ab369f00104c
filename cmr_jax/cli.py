"""The shell every binary runs in: one clear line and exit 2 for a user's mistake, never a traceback."""

import sys
from collections.abc import Callable, Sequence

from absl import app, flags

from cmr_jax.errors import InputError

EXIT_INPUT_ERROR = 2


def fail(message: str) -> None:
    """Prints `message` as one line on stderr and exits 2."""
    print("error: " + " ".join(str(message).split()), file=sys.stderr)
    raise SystemExit(EXIT_INPUT_ERROR)


def _parse(argv: Sequence[str]) -> list[str]:
    try:
        rest = flags.FLAGS(list(argv))
    except flags.Error as error:
        return fail(f"{error} (see --help)")
    if len(rest) > 1:
        return fail(f"unexpected argument {rest[1]!r}: every option is given as --name=value (see --help)")
    return rest


def run(main: Callable[[], int | None]) -> None:
    """Parses flags and runs `main()`; its return value (None: 0) is the exit code.

    `InputError` becomes one line on stderr and exit 2.
    """

    def guarded(_: Sequence[str]) -> int | None:
        try:
            return main()
        except InputError as error:
            return fail(str(error))

    app.run(guarded, flags_parser=_parse)
