"""Block work from the node's side, on trio: over the socket to an execution process, or in-process for tests.

Both carriers have the same async methods (:class:`ExecutionLink`). Every answer is typed; when the process cannot
answer any more they raise :class:`ExecutionGone`, after which the client is of no use and the node stops safely.
"""

from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Protocol

import trio

from astralink_node.chain.codec import CodecError, decode, encode
from astralink_node.chain.consensus_messages import Decided, GetDecided
from astralink_node.chain.frames import FrameDecoder, FrameError, encode_frame
from astralink_node.chain.messages import (
    Answer,
    BlockWork,
    BlockWorkAnswer,
    Build,
    Built,
    CannotBuild,
    Commit,
    Committed,
    GetStatus,
    Invalid,
    NeedBlock,
    NotFound,
    Query,
    Status,
    Valid,
    Validate,
)
from astralink_node.chain.sync_messages import ImportAnswer, ImportWork
from astralink_node.errors import AstraLinkError

if TYPE_CHECKING:
    from astralink_node.chain.execution import Execution  # its imports (py-evm) cost the node a second of start-up

RECEIVE_BYTES = 1 << 20
NODE_ANSWERS = BlockWorkAnswer | Answer


class ExecutionGone(AstraLinkError):
    """The execution process ended or broke the protocol. Its exit code says why (chain.process_config)."""


class ExecutionLink(Protocol):
    """What the node needs of execution, whichever way it is carried."""

    async def status(self) -> Status: ...
    async def build(self, request: Build) -> Built | CannotBuild: ...
    async def validate(self, request: Validate) -> Valid | Invalid: ...
    async def commit(self, request: Commit) -> Committed | NeedBlock: ...
    async def decided(self, height: int) -> Decided | NotFound: ...
    async def query(self, query: Query) -> Answer: ...
    async def import_state(self, request: ImportWork) -> ImportAnswer | Status: ...


class InProcessExecution:
    """The facade itself, called directly: for tests and simulation."""

    def __init__(self, execution: "Execution") -> None:
        self._execution = execution

    async def status(self) -> Status:
        await trio.lowlevel.checkpoint()
        return self._execution.status()

    async def build(self, request: Build) -> Built | CannotBuild:
        await trio.lowlevel.checkpoint()
        return self._execution.build(request)

    async def validate(self, request: Validate) -> Valid | Invalid:
        await trio.lowlevel.checkpoint()
        return self._execution.validate(request)

    async def commit(self, request: Commit) -> Committed | NeedBlock:
        await trio.lowlevel.checkpoint()
        return self._execution.commit(request)

    async def decided(self, height: int) -> Decided | NotFound:
        await trio.lowlevel.checkpoint()
        return self._execution.decided(height)

    async def query(self, query: Query) -> Answer:
        await trio.lowlevel.checkpoint()
        return self._execution.query(query)

    async def import_state(self, request: ImportWork) -> ImportAnswer | Status:
        await trio.lowlevel.checkpoint()
        return self._execution.import_state(request)


@dataclass(slots=True)
class _Waiting:
    """A request whose answer has not come."""

    done: trio.Event = field(default_factory=trio.Event)
    answer: BlockWorkAnswer | Answer | None = None


class ExecutionClient:
    """The node's end of the socket. :meth:`run` must be running in a nursery for answers to arrive.

    Requests are served in the order in which they were sent, one at a time. A cancelled request is still served;
    its answer is dropped.
    """

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._ids = count(1)
        self._waiting: dict[int, _Waiting] = {}
        self._sending = trio.Lock()
        self._gone: str | None = None

    async def run(self) -> None:
        """Receive answers until the process closes its end, then return; whoever waits gets ExecutionGone."""
        frames = FrameDecoder()
        reason = "the execution process closed the connection"
        try:
            while data := await self._stream.receive_some(RECEIVE_BYTES):
                for frame in frames.feed(bytes(data)):
                    waiting = self._waiting.get(frame.request_id)
                    if waiting is not None:
                        waiting.answer = decode(NODE_ANSWERS, frame.payload)
                        waiting.done.set()
        except (FrameError, CodecError) as error:
            reason = f"the execution process broke the protocol: {error}"
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            self._gone = reason
            for waiting in self._waiting.values():
                waiting.done.set()

    async def aclose(self) -> None:
        """Close the socket: the process ends. (Its exit code is the supervisor's to collect.)"""
        await self._stream.aclose()

    async def status(self) -> Status:
        answer = await self._ask(GetStatus())
        if isinstance(answer, Status):
            return answer
        raise _unexpected(answer)

    async def build(self, request: Build) -> Built | CannotBuild:
        answer = await self._ask(request)
        if isinstance(answer, Built | CannotBuild):
            return answer
        raise _unexpected(answer)

    async def validate(self, request: Validate) -> Valid | Invalid:
        answer = await self._ask(request)
        if isinstance(answer, Valid | Invalid):
            return answer
        raise _unexpected(answer)

    async def commit(self, request: Commit) -> Committed | NeedBlock:
        answer = await self._ask(request)
        if isinstance(answer, Committed | NeedBlock):
            return answer
        raise _unexpected(answer)

    async def decided(self, height: int) -> Decided | NotFound:
        """A committed block and its certificate, for a peer that lags."""
        answer = await self._ask(GetDecided(height))
        if isinstance(answer, Decided | NotFound):
            return answer
        raise _unexpected(answer)

    async def query(self, query: Query) -> Answer:
        """Small questions of the node's own: they wait for block work, and block work for them."""
        answer = await self._ask(query)
        if isinstance(answer, Answer):
            return answer
        raise _unexpected(answer)

    async def import_state(self, request: ImportWork) -> ImportAnswer | Status:
        """One step of importing a snapshot."""
        answer = await self._ask(request)
        if isinstance(answer, ImportAnswer | Status):
            return answer
        raise _unexpected(answer)

    async def _ask(self, request: BlockWork | Query) -> BlockWorkAnswer | Answer:
        # A node that is being stopped cancels the receiver too: then the caller is cancelled, not told of a failure.
        await trio.lowlevel.checkpoint_if_cancelled()
        request_id = next(self._ids)
        waiting = self._waiting[request_id] = _Waiting()
        try:
            await self._send(encode_frame(request_id, encode(request)))
            if self._gone is None:
                await waiting.done.wait()
        finally:
            del self._waiting[request_id]
        if waiting.answer is None:
            await trio.lowlevel.checkpoint_if_cancelled()
            raise ExecutionGone(self._gone or "the execution process is gone")
        return waiting.answer

    async def _send(self, frame: bytes) -> None:
        if self._gone is not None:
            raise ExecutionGone(self._gone)
        try:
            # Shielded: half a frame would garble everything after it. The process always reads on.
            with trio.CancelScope(shield=True):
                async with self._sending:
                    await self._stream.send_all(frame)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise ExecutionGone("the execution process closed the connection") from error


def _unexpected(answer: object) -> ExecutionGone:
    return ExecutionGone(f"the execution process answered with {type(answer).__name__}, which answers something else")
