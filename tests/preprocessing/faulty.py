"""What workers do in the tests of the pool: they must be importable by name in a spawned process."""

import ctypes
import os
import pathlib
import signal
import sys
import time

from preprocessing import scan
from preprocessing.study import FileScan


def square(item: int) -> int:
    return item * item


def slow_square(item: int) -> int:
    time.sleep(0.3 if item % 2 else 0)
    return item * item


def misbehave(folder: pathlib.Path, item: str | int) -> str:
    """Does what `item` names, and leaves a line a call."""
    with (folder / "calls").open("a") as file:
        file.write(f"{item}\n")
    match item:
        case "segv":
            ctypes.string_at(0)
        case "abort":
            os.abort()
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "exit":
            os._exit(7)
        case "sys.exit":
            sys.exit(3)
        case "memory":
            return str(len(bytearray(64 << 30)))
        case "hang":
            time.sleep(600)
        case "hang in C":
            ctypes.PyDLL(None).sleep(600)  # holds the interpreter: no thread of Python runs
        case "raise":
            raise ValueError("ours to fix")
    return f"did {item}"


def about(_: int) -> tuple[int, int, str, str]:
    """Core limit, address space limit, and where the two outputs go."""
    import resource

    core, space = resource.getrlimit(resource.RLIMIT_CORE)[0], resource.getrlimit(resource.RLIMIT_AS)[0]
    out, err = (str(pathlib.Path(f"/proc/self/fd/{n}").readlink()) for n in (1, 2))
    return core, space, out, err


def scan_file(root: pathlib.Path, path: str) -> FileScan:
    """`scan.scan_file`, with two files whose headers are the end of it."""
    if path.endswith("abort.dcm"):
        os.abort()
    if path.endswith("hang.dcm"):
        time.sleep(600)
    return scan.scan_file(root, path)
