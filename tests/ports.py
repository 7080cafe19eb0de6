"""Ports for servers of tests and benchmarks that start a moment later.

They lie below those that Linux gives to clients (32768 and more): of these, a connection of any other process could
take one before the server listens on it.
"""

import random
import socket
from contextlib import ExitStack

LOWEST, HIGHEST = 15_000, 19_900
_given: set[int] = set()


def free_ports(count: int, following: int = 0) -> list[int]:
    """Ports that nobody listens on, nor on the next `following` ones; none is given twice."""
    found: list[int] = []
    while len(found) < count:
        port = random.randrange(LOWEST, HIGHEST)
        wanted = range(port, port + following + 1)
        if _given.isdisjoint(wanted) and _are_free(wanted):
            _given.update(wanted)
            found.append(port)
    return found


def _are_free(ports: range) -> bool:
    with ExitStack() as stack:
        try:
            for port in ports:
                stack.enter_context(socket.socket()).bind(("", port))
        except OSError:
            return False
    return True
