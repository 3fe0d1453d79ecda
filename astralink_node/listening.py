"""A listening TCP socket, and the words for a port that cannot be had."""

from __future__ import annotations

import errno
import socket

from astralink_node.errors import UserError

BACKLOG = 1024


class CannotListen(UserError):
    """The address cannot be had: it is in use, forbidden, not this machine's, or its folder is open to others."""


def listen_tcp(host: str, port: int, flag: str) -> socket.socket:
    """A listening socket. Raises CannotListen, which names the port and the flag that chooses another one."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror as error:
        raise CannotListen(f"cannot listen on {host}: {error.strerror}") from error
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            message = f"port {port} on {host} is already in use; stop what uses it, or choose another one with {flag}"
        else:
            message = f"cannot listen on port {port} of {host}: {error.strerror}"
        raise CannotListen(message) from error
    return listener
