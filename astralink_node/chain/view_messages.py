"""Several read-only calls of one contract in one question, answered from one state.

Part of :mod:`astralink_node.chain.messages`, which takes these into its unions: what a summary of a contract needs
that has one view an entry, without a round trip an entry and without the chain moving on between them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ViewsQuestion:
    """Each call starts from the selected state and changes nothing; gas and time are limited as for eth_call."""

    contract: bytes
    calls: tuple[bytes, ...]
    """Call data of each, at most ``QueryLimits.max_views``."""


@dataclass(frozen=True, slots=True)
class ViewsAnswer:
    """Every call succeeded; one that reverts or halts makes the answer a ``CallFailed``."""

    outputs: tuple[bytes, ...]
    """In the order asked. An account without code gives nothing: empty outputs."""
