"""The shell every binary runs in: one clear line and exit 2 for a user's mistake, never a traceback."""

import functools
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import NoReturn

from absl import app, flags, logging

from cmr_jax.errors import InputError

EXIT_INPUT_ERROR = 2
EXIT_INTERRUPTED = 130  # as shells say it
EXIT_PIPE_CLOSED = 141


def fail(message: str) -> NoReturn:
    """Prints `message` as one line on stderr and exits 2."""
    print("error: " + " ".join(str(message).split()), file=sys.stderr)
    raise SystemExit(EXIT_INPUT_ERROR)


def _innermost(error: Exception) -> str:
    """The text of the exception that others were wrapped around."""
    while error.args and isinstance(error.args[0], Exception):
        error = error.args[0]
    return str(error.args[0] if error.args else error)


def _parse(argv: Sequence[str], private: bool = False) -> list[str]:
    try:
        rest = flags.FLAGS(list(argv))
    except SystemExit:  # only --help and its like end here, and absl has them exit 1
        raise SystemExit(0) from None
    except flags.Error as error:
        fail(f"{error} (see --help)")
    except (AttributeError, KeyError) as error:  # how ml_collections says that --config.x.y is no key
        fail(f"unknown config key: {_innermost(error)}")
    except OSError:  # and that an override has no config file to override
        fail("no config file there: --config names a file such as configs/demo.py")
    if len(rest) > 1:
        # A path with a space in it falls apart on the command line, and its second half may be a name.
        word = "" if private else f" {rest[1]!r}"
        fail(f"unexpected argument{word}: every option is given as --name=value (see --help)")
    return rest


def _where(error: BaseException) -> str:
    """The traceback of `error` without its message, which may quote a path or a value."""
    chain = [error]
    while (before := chain[-1].__cause__ or chain[-1].__context__) and before not in chain:
        chain.append(before)
    parts = ["".join(traceback.format_tb(one.__traceback__)) + type(one).__name__ for one in reversed(chain)]
    return "\n".join(parts)


def run(main: Callable[[], int | None], *, private: bool = False) -> None:
    """Parses flags and runs `main()`; its return value (None: 0) is the exit code.

    `InputError` becomes one line on stderr and exit 2. With `private`, for commands that read patients' files, nothing
    else quotes what was read or typed either: an error of ours shows where it happened and its type, and exits 1.
    """

    logging.set_verbosity(logging.WARNING)

    def guarded(_: Sequence[str]) -> int | None:
        try:
            return main()
        except InputError as error:
            fail(str(error))
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            raise SystemExit(EXIT_INTERRUPTED) from None
        except BrokenPipeError:  # what is printed was piped into `head`, or a pager that was left
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains once more at its end
            raise SystemExit(EXIT_PIPE_CLOSED) from None
        except Exception as error:
            if not private:
                raise
            print(
                f"{_where(error)}\nan error of ours; its message is withheld, for it may quote a file", file=sys.stderr
            )
            raise SystemExit(1) from None

    app.run(guarded, flags_parser=functools.partial(_parse, private=private))
