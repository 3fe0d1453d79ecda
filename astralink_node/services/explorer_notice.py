"""What a node says at its start when its explorer index has a gap."""

from astralink_node.chain.client import ExecutionLink
from astralink_node.chain.index_messages import IndexStatus, IndexStatusQuestion
from astralink_node.chain.messages import AtLatest, Query
from astralink_node.log import Log


async def tell_of_gap(execution: ExecutionLink, log: Log) -> None:
    """A warning that names the blocks and the command; nothing where all of them are indexed."""
    status = await execution.query(Query(AtLatest(), IndexStatusQuestion()))
    if isinstance(status, IndexStatus) and status.missing:
        newest = status.missing[-1]
        log.warning(
            "blocks are missing in the explorer index, and questions about them are refused: stop the node and run "
            "`astralink-node db index`; new blocks are indexed",
            first=status.missing[0].first,
            last=newest.last,
            blocks=sum(part.last - part.first + 1 for part in status.missing),
        )
