"""Ports for servers and proxies, which keep theirs while they are down.

They are taken from below those that systems give to outgoing connections, so that nothing else is
likely to take one meanwhile.
"""

from __future__ import annotations

import random
import socket

PORTS = range(20_000, 32_000)


def listen() -> socket.socket:
    """Return a socket that listens on a free loopback port."""
    while True:
        try:
            return socket.create_server(("127.0.0.1", random.choice(PORTS)))
        except OSError:
            continue


def free_port() -> int:
    """Return a port that was free just now; whoever starts a server on it may find it taken."""
    with listen() as probe:
        port: int = probe.getsockname()[1]
        return port
