"""Whether a proof has driven a service: how often one was started, or a connection made to one that runs.

It is counted by what this process does (an audit hook of Python), not by what a proof says, and in every way a proof
may use: a client, a bare socket, a browser of its own.
"""

import sys
from functools import cache

_ports: set[int] = set()
_count = 0


def started(*ports: int) -> None:
    """A service has answered that it is ready, on these ports: count it, and every connection from now on."""
    global _count  # noqa: PLW0603 - an audit hook belongs to the process, and so does what it counts
    _watch()
    _ports.update(ports)
    _count += 1


def count() -> int:
    """How often this process has driven a service until now."""
    return _count


@cache
def _watch() -> None:
    """Begin to count; a hook can be added once, and never be removed."""
    sys.addaudithook(_hook)


def _hook(event: str, arguments: tuple[object, ...]) -> None:
    global _count  # noqa: PLW0603 - see above
    if event == "socket.connect":
        address = arguments[1]
        if isinstance(address, tuple) and len(address) > 1 and address[1] in _ports:
            _count += 1
