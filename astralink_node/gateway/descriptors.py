"""Room for connections: each needs a file descriptor, of which systems allow a process 1024 unless it asks for more."""

from __future__ import annotations

import logging
import resource
from dataclasses import replace

from astralink_node.gateway.config import GatewayLimits

OWN_DESCRIPTORS = 64
"""For the listener, the node's sockets, the log and the event loop."""

logger = logging.getLogger(__name__)


def make_room(limits: GatewayLimits) -> GatewayLimits:
    """Raise this process's soft limit as far as its connections need; where the hard one is lower, take fewer."""
    wanted = limits.connections + OWN_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return limits
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed == wanted:
        return limits
    connections = max(1, allowed - OWN_DESCRIPTORS)
    logger.warning(
        "only %d files may be open (ulimit -Hn), so at most %d connections are taken at once, not the %d of "
        "rpc.max_connections",
        allowed,
        connections,
        limits.connections,
    )
    return replace(limits, connections=connections)
