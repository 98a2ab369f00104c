"""On PYTHONPATH of a command under test: writes every attempt to leave this machine to the file CMR_NETWORK_LOG.

Python imports `sitecustomize` at its start, in spawned workers too. Loopback and Unix sockets are no network.
"""

import os
import sys
from typing import Any

_LOCAL = ("127.", "::1", "localhost", "0.0.0.0")


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        address = arguments[1]
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        address = (arguments[0],)
    else:
        return
    host = address[0] if isinstance(address, tuple) and address else None  # a Unix socket's address is a path
    if host is None or str(host).startswith(_LOCAL) or host in (b"localhost", ""):
        return
    with open(os.environ["CMR_NETWORK_LOG"], "a") as file:  # noqa: PTH123
        file.write(f"{event} {host!r}\n")


if "CMR_NETWORK_LOG" in os.environ:
    sys.addaudithook(_note)
