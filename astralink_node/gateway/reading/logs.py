"""Logs of a range of blocks: from cached blocks where all are there, else by the index of the execution process."""

from __future__ import annotations

from collections.abc import Sequence

from astralink_node.chain.messages import AtLatest, LogRecord, LogsAnswer, LogsQuestion
from astralink_node.gateway.reading.block_view import BlockView
from astralink_node.gateway.reading.errors import TooMuch
from astralink_node.gateway.reading.log_pattern import LogPattern
from astralink_node.gateway.reading.source import Source


class LogReader:
    def __init__(self, source: Source, *, max_blocks: int, max_results: int) -> None:
        self._source = source
        self._max_blocks = max_blocks
        self._max_results = max_results

    async def between(self, first: int, last: int, pattern: LogPattern) -> Sequence[LogRecord]:
        """Both heights included; in chain order. Raises TooMuch."""
        count = last - first + 1
        if count > self._max_blocks:
            raise TooMuch(f"block range too large: {count} blocks, at most {self._max_blocks}")
        cached = self._cached_views(first, last)
        if cached is not None:
            return self.of_views(cached, pattern)
        question = LogsQuestion(
            from_height=first,
            to_height=last,
            addresses=tuple(sorted(pattern.addresses)),
            topics=tuple(tuple(sorted(choices)) for choices in pattern.topics),
        )
        answer = await self._source.ask(AtLatest(), question, LogsAnswer)
        self._check_count(len(answer.logs))
        return answer.logs

    def of_views(self, views: Sequence[BlockView], pattern: LogPattern) -> Sequence[LogRecord]:
        """Of blocks with their receipts. Raises TooMuch."""
        found: list[LogRecord] = []
        for view in views:
            found += [log for log in view.logs if pattern.matches(log.address, log.topics)]
            self._check_count(len(found))
        return found

    def _cached_views(self, first: int, last: int) -> list[BlockView] | None:
        heads = self._source.heads
        if heads.by_height(first) is None:
            return None
        views: list[BlockView] = []
        for height in range(first, last + 1):
            view = heads.by_height(height)
            if view is None or view.receipts is None:
                return None
            views.append(view)
        return views

    def _check_count(self, count: int) -> None:
        if count > self._max_results:
            raise TooMuch(f"query returned more than {self._max_results} results")
