"""The shell every binary runs in: one clear line and exit 2 for a user's mistake, never a traceback."""

import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from absl import app, flags, logging

from cmr_jax.errors import InputError

EXIT_INPUT_ERROR = 2


def fail(message: str) -> NoReturn:
    """Prints `message` as one line on stderr and exits 2."""
    print("error: " + " ".join(str(message).split()), file=sys.stderr)
    raise SystemExit(EXIT_INPUT_ERROR)


def _innermost(error: Exception) -> str:
    """The text of the exception that others were wrapped around."""
    while error.args and isinstance(error.args[0], Exception):
        error = error.args[0]
    return str(error.args[0] if error.args else error)


def _parse(argv: Sequence[str]) -> list[str]:
    try:
        rest = flags.FLAGS(list(argv))
    except flags.Error as error:
        fail(f"{error} (see --help)")
    except (AttributeError, KeyError) as error:  # how ml_collections says that --config.x.y is no key
        fail(f"unknown config key: {_innermost(error)}")
    except OSError:  # and that an override has no config file to override
        fail("no config file there: --config names a file such as configs/demo.py")
    if len(rest) > 1:
        fail(f"unexpected argument {rest[1]!r}: every option is given as --name=value (see --help)")
    return rest


def run(main: Callable[[], int | None]) -> None:
    """Parses flags and runs `main()`; its return value (None: 0) is the exit code.

    `InputError` becomes one line on stderr and exit 2.
    """

    logging.set_verbosity(logging.WARNING)

    def guarded(_: Sequence[str]) -> int | None:
        try:
            return main()
        except InputError as error:
            fail(str(error))

    app.run(guarded, flags_parser=_parse)
