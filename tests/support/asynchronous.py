"""Runs the body of an asyncio test, bounded in time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


def run(main: Callable[[], Coroutine[Any, Any, Result]], timeout_s: float = 20) -> Result:
    async def bounded() -> Result:
        async with asyncio.timeout(timeout_s):
            return await main()

    return asyncio.run(bounded())
