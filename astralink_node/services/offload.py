"""Where work that blocks is done: curve arithmetic, and calls that wait for the disk."""

from collections.abc import Callable
from typing import Protocol, TypeVar, TypeVarTuple

import trio

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Offload(Protocol):
    """Runs `work` with its arguments and returns its result; other tasks may run meanwhile."""

    async def __call__(self, work: Callable[[*Ts], T], *arguments: *Ts) -> T: ...


async def in_thread(work: Callable[[*Ts], T], *arguments: *Ts) -> T:
    """In a worker thread: what a running node does. Cancellation waits for it, so nothing is left half-written."""
    return await trio.to_thread.run_sync(work, *arguments)


async def inline(work: Callable[[*Ts], T], *arguments: *Ts) -> T:
    """Here and now: for whole nodes in virtual time, where a thread would be another clock."""
    await trio.lowlevel.checkpoint()
    return work(*arguments)
