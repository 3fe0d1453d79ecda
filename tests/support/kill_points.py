"""Kills a node at a chosen call: on either side of a write, a sync, a signature or a commit.

What a process does after its death does not happen, so once the point is passed every further call fails as well.
A log that dies may lose what it had not synced.
"""

import os
from collections.abc import Callable, Collection
from pathlib import Path
from random import Random
from typing import Any

from astralink_node.chain.client import ExecutionLink
from astralink_node.chain.messages import Commit, Committed, NeedBlock
from astralink_node.services.consensus_log import WAL_FILE, ConsensusLog
from astralink_node.validator.local_signer import Signer


class Killed(BaseException):
    """The process has ended."""


class KillPoint:
    """Counts the steps of one life and ends it at step number `at`; without one it only counts."""

    def __init__(self, at: int | None = None) -> None:
        self.at = at
        self.steps = 0

    @property
    def is_passed(self) -> bool:
        return self.at is not None and self.steps >= self.at

    def step(self) -> None:
        self.steps += 1
        if self.is_passed:
            raise Killed


class Around:
    """Calls `step` before and after the methods of those names, so that a crash can fall on either side."""

    def __init__(self, inner: Any, step: Callable[[], None], names: Collection[str]) -> None:
        self._inner = inner
        self._step = step
        self._names = names

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)
        if name not in self._names:
            return method

        def call(*arguments: Any) -> Any:
            self._step()
            result = method(*arguments)
            self._step()
            return result

        return call


class _AroundCommit:
    def __init__(self, inner: ExecutionLink, step: Callable[[], None]) -> None:
        self._inner = inner
        self._step = step

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def commit(self, request: Commit) -> Committed | NeedBlock:
        self._step()
        answer = await self._inner.commit(request)
        self._step()
        return answer


_LOG_CALLS = frozenset(("begin", "record", "record_block", "sync", "cut"))
_SIGNER_CALLS = frozenset(("sign_proposal", "sign_vote", "sign_reveal", "sign_checkpoint"))


def log_with(point: KillPoint, log: ConsensusLog) -> ConsensusLog:
    return Around(log, point.step, _LOG_CALLS)  # type: ignore[return-value]


def signer_with(point: KillPoint, signer: Signer) -> Signer:
    return Around(signer, point.step, _SIGNER_CALLS)  # type: ignore[return-value]


def execution_with(point: KillPoint, execution: ExecutionLink) -> ExecutionLink:
    return _AroundCommit(execution, point.step)  # type: ignore[return-value]


class WatchedLog(ConsensusLog):
    """Knows how much of it would survive a power failure."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._path = folder / WAL_FILE
        self.synced_bytes = self._path.stat().st_size  # opening syncs

    def sync(self) -> None:
        super().sync()
        self.synced_bytes = self._path.stat().st_size

    def cut(self) -> None:
        super().cut()
        self.synced_bytes = 0


def tear(path: Path, synced_bytes: int, chance: Random) -> int:
    """What a power failure may leave of a log: everything synced, some of the rest, then perhaps rubbish.

    Returns how many bytes were lost.
    """
    size = path.stat().st_size
    kept = chance.randint(synced_bytes, size)
    os.truncate(path, kept)
    if chance.random() < 0.5:
        with path.open("ab") as file:
            file.write(chance.randbytes(chance.randint(1, 40)))
    return size - kept
