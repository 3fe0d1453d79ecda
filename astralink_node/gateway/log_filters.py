"""Log filters: the object that eth_getLogs, eth_newFilter and eth_subscribe("logs") take.

Pure. Limits on addresses and topic choices are geth's in kind; their values come from the configuration.
"""

from __future__ import annotations

from dataclasses import dataclass

from astralink_node.chain.messages import BlockSelector
from astralink_node.gateway.parameters import address, array, block_number, hash32, json_object
from astralink_node.gateway.reading.log_pattern import LogPattern
from astralink_node.gateway.rpc_errors import invalid_argument, invalid_params

MAX_TOPICS = 4
"""LOG4 writes four topics; a longer pattern matches nothing."""


@dataclass(frozen=True, slots=True)
class LogFilter:
    """A pattern and the blocks to look in: one by hash, or a range whose ends may be left open."""

    pattern: LogPattern
    block_hash: bytes | None
    from_block: BlockSelector | None
    to_block: BlockSelector | None


def log_filter(path: str, value: object) -> LogFilter:
    fields = json_object(path, value)
    from_block, to_block, block_hash = (fields.get(name) for name in ("fromBlock", "toBlock", "blockHash"))
    if block_hash is not None and (from_block is not None or to_block is not None):
        raise invalid_argument(0, "cannot specify both BlockHash and FromBlock/ToBlock, choose one or the other")
    return LogFilter(
        pattern=LogPattern(
            addresses=_addresses(f"{path}.address", fields.get("address")),
            topics=_topics(f"{path}.topics", fields.get("topics")),
        ),
        block_hash=None if block_hash is None else hash32(f"{path}.blockHash", block_hash),
        from_block=None if from_block is None else block_number(f"{path}.fromBlock", from_block),
        to_block=None if to_block is None else block_number(f"{path}.toBlock", to_block),
    )


def check_bounds(pattern: LogPattern, max_addresses: int, max_topic_choices: int) -> None:
    if len(pattern.addresses) > max_addresses:
        raise invalid_params(f"exceed max addresses: {max_addresses}")
    if len(pattern.topics) > MAX_TOPICS:
        raise invalid_params(f"exceed max topics: {MAX_TOPICS}")
    for choices in pattern.topics:
        if len(choices) > max_topic_choices:
            raise invalid_params(f"exceed max topics: {max_topic_choices} choices at one position")


def _addresses(path: str, value: object) -> frozenset[bytes]:
    if value is None:
        return frozenset()
    if isinstance(value, list):
        return frozenset(address(f"{path}[{index}]", item) for index, item in enumerate(value))
    return frozenset((address(path, value),))


def _topics(path: str, value: object) -> tuple[frozenset[bytes], ...]:
    if value is None:
        return ()
    return tuple(_topic(f"{path}[{index}]", item) for index, item in enumerate(array(path, value)))


def _topic(path: str, value: object) -> frozenset[bytes]:
    """null and a list that holds null stand for any topic."""
    if value is None:
        return frozenset()
    if not isinstance(value, list):
        return frozenset((hash32(path, value),))
    if any(item is None for item in value):
        return frozenset()
    return frozenset(hash32(f"{path}[{index}]", item) for index, item in enumerate(value))
