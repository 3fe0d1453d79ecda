"""Why a question has no answer: facts, which each interface words in its own way (JSON-RPC: gateway.rpc_errors)."""

from __future__ import annotations

from astralink_node.errors import AstraLinkError


class ReadError(AstraLinkError):
    """A question without an answer. What merely does not exist, such as an unknown transaction, is None instead."""


class Unavailable(ReadError):
    """The execution process or the node cannot be reached now, or has too much to do; clients may try again."""


class UnknownBlock(ReadError):
    """The state or the results of a block that is not there."""

    def __init__(self, *, by_hash: bool) -> None:
        super().__init__("header for hash not found" if by_hash else "header not found")


class UnknownTransaction(ReadError):
    """What would have to be executed again was never executed, or is not known."""

    def __init__(self) -> None:
        super().__init__("transaction not found")


class StateUnavailable(ReadError):
    """The state of a block that is there, but older than this node keeps."""

    def __init__(self, asked_height: int, oldest_height: int) -> None:
        super().__init__(
            f"historical state of block {asked_height} is not available; the oldest kept is {oldest_height}"
        )
        self.asked_height = asked_height
        self.oldest_height = oldest_height


class TooMuch(ReadError):
    """The answer would be larger, or take longer, than a configured bound; the message names it."""


class CallReverted(ReadError):
    """A simulated call was reverted; `output` is its revert data."""

    def __init__(self, output: bytes) -> None:
        super().__init__("execution reverted")
        self.output = output


class CallHalted(ReadError):
    """A simulated call ended in an exceptional halt."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason or "execution halted")


class CallRefused(ReadError):
    """A simulated call that could not start; `kind` is one of CallFailed's (chain.call_messages)."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class SimulationRefused(ReadError):
    """Blocks that could not be simulated; `kind` as in :class:`CallRefused`, and CallFailed's for whole blocks."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class NotAnswered(ReadError):
    """The node could not or would not say; the message has its words."""


class IndexGap(ReadError):
    """The answer may depend on blocks that the explorer index does not hold, or holds without internal calls."""

    def __init__(self, first: int, last: int, reason: str) -> None:
        blocks = f"blocks {first} to {last}"
        super().__init__(
            {
                "unindexed": f"{blocks} are not in the explorer index: stop the node, run `astralink-node db index`, "
                "and start it with --explorer-index",
                "without_calls": f"{blocks} are in the explorer index without internal calls, since their state was "
                "not kept: what contracts created there is not known",
                "without_blocks": f"this node does not have {blocks}: it joined with a snapshot",
            }[reason]
        )


class NoStaking(ReadError):
    """The chain's genesis has no such contract."""

    def __init__(self) -> None:
        super().__init__("this chain has no staking: its validators are those of its genesis file")
