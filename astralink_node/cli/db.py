"""`db check|stats|index|prune|compact|repair|rollback`: looking after the database while no node runs on it."""

import json
from dataclasses import asdict
from pathlib import Path

import click

from astralink_node.chain.check import check_database
from astralink_node.chain.commits import prune_history, rollback_head
from astralink_node.chain.data_folder import DATABASE_NAME, open_database
from astralink_node.chain.errors import ChainInUse
from astralink_node.chain.index_search import index_status
from astralink_node.chain.initialise import check_head, open_chain
from astralink_node.chain.ledger import Ledger
from astralink_node.cli.db_index import index, shown_ranges
from astralink_node.cli.options import data_dir_option, json_option
from astralink_node.cli.progress import Progress
from astralink_node.errors import UserError
from astralink_node.storage import keys
from astralink_node.storage.leveldb import CutLog, cut_unwritten_end
from astralink_node.storage.store import DatabaseDamaged, DatabaseLocked, Store

EXIT_DAMAGED = 1
HEIGHTS_PER_BATCH = 64


@click.group()
def db() -> None:
    """Check, measure, index, prune, compact, repair or roll back the database. No node may run on it meanwhile."""


db.add_command(index)


@db.command("check")
@data_dir_option()
@click.option("--state-only", is_flag=True, help="Only the state at the head, not every block.")
@json_option()
@click.pass_context
def check(context: click.Context, data_dir: Path, state_only: bool, as_json: bool) -> None:
    """Verify every block, receipt and certificate, and the whole state against the head's state root."""
    progress = Progress()
    with open_database(data_dir) as store:
        result = check_database(store, progress.update, blocks=not state_only)
    progress.finish(f"checked in {progress.elapsed_s:.1f} s")
    if as_json:
        click.echo(json.dumps({"whole": not result.problems, **asdict(result)}, indent=2))
    else:
        click.echo(
            f"{result.blocks:,} blocks, {result.transactions:,} transactions, {result.accounts:,} accounts, "
            f"{result.slots:,} storage slots, {result.trie_nodes:,} trie nodes; the head is at {result.head_height:,}"
        )
        for problem in result.problems:
            click.echo(f"problem: {problem}")
        click.echo("the database is damaged" if result.problems else "the database is whole")
    if result.problems:
        context.exit(EXIT_DAMAGED)


@db.command("stats")
@data_dir_option()
@click.option("--count", is_flag=True, help="Also count the entries of each table: reads all of them.")
@json_option()
def stats(data_dir: Path, count: bool, as_json: bool) -> None:
    """Show where the chain stands and what takes how much room (recent writes may be missing from sizes)."""
    with open_database(data_dir) as store:
        chain = open_chain(store)
        oldest = Ledger(store).oldest_state_height()
        explorer = index_status(store)
        tables = {name: _table(store, prefix, count=count) for prefix, name in keys.TABLE_NAMES.items()}
    if as_json:
        report = {
            "chainId": chain.genesis.chain_id,
            "genesisHash": f"0x{chain.genesis_hash.hex()}",
            "head": chain.head.height,
            "headHash": f"0x{chain.head.block_hash.hex()}",
            "oldestState": oldest,
            "formatVersion": keys.FORMAT_VERSION,
            "explorerIndex": asdict(explorer),
            "tables": tables,
        }
        click.echo(json.dumps(report, indent=2))
        return
    click.echo(f"Network:      {chain.genesis.network_name} (chain id {chain.genesis.chain_id})")
    click.echo(f"Genesis hash: 0x{chain.genesis_hash.hex()}")
    click.echo(f"Head:         {chain.head.height:,}  0x{chain.head.block_hash.hex()}")
    click.echo(f"State:        of heights {oldest:,} to {chain.head.height:,}")
    if explorer.complete or explorer.without_calls:
        click.echo(f"Explorer:     indexed {shown_ranges(explorer.complete)}")
        click.echo(f"              without internal calls {shown_ranges(explorer.without_calls)}")
        click.echo(f"              missing {shown_ranges(explorer.missing)}")
    for name, figures in tables.items():
        entries = f"{figures['entries']:>12,} entries" if count else ""
        click.echo(f"  {name:<24}{figures['bytes']:>16,} bytes{entries}")
    click.echo(f"  {'all':<24}{sum(figures['bytes'] for figures in tables.values()):>16,} bytes")


def _table(store: Store, prefix: bytes, *, count: bool) -> dict[str, int]:
    start, stop = keys.prefix_range(prefix)
    figures = {"bytes": store.approximate_bytes(start, stop)}
    if count:
        figures["entries"] = sum(1 for _ in store.iterate(start, stop))
    return figures


@db.command("prune")
@data_dir_option()
@click.option("--keep", type=click.IntRange(0), required=True, help="Heights below the head whose state stays.")
@json_option()
def prune(data_dir: Path, keep: int, as_json: bool) -> None:
    """Drop the state of old heights. Blocks, receipts and logs stay; `db compact` then gives the room back."""
    progress = Progress()
    with open_database(data_dir) as store:
        chain = open_chain(store)
        before = Ledger(store).oldest_state_height()
        target = max(before, chain.head.height - keep)
        more = target > before
        while more:
            writes, more = prune_history(store, target, HEIGHTS_PER_BATCH)
            store.write(writes, sync=True)
            progress.update("pruned heights", Ledger(store).oldest_state_height() - before, target - before)
        oldest = Ledger(store).oldest_state_height()
    progress.finish(f"pruned {oldest - before:,} heights; state is kept of heights {oldest:,} to {chain.head.height:,}")
    if as_json:
        click.echo(json.dumps({"pruned": oldest - before, "oldestState": oldest, "head": chain.head.height}, indent=2))


@db.command("compact")
@data_dir_option()
@json_option()
def compact(data_dir: Path, as_json: bool) -> None:
    """Reorganise the files and give back the room of what was deleted."""
    with open_database(data_dir) as store:
        before = _size(store)
        click.echo("compacting, this may take minutes ...", err=True)
        store.compact()
        after = _size(store)
    if as_json:
        click.echo(json.dumps({"bytesBefore": before, "bytesAfter": after}, indent=2))
    else:
        click.echo(f"{before:,} bytes before, {after:,} bytes after")


def _size(store: Store) -> int:
    return store.approximate_bytes(b"", b"\xff")


@db.command("repair")
@data_dir_option()
@json_option()
def repair(data_dir: Path, as_json: bool) -> None:
    """Cut off what a power failure left of a write that it interrupted.

    Such a write was never acknowledged, so no committed block is lost. Any other damage is left as it is.
    """
    cut = None
    try:
        head = _head(data_dir)
    except DatabaseDamaged as damage:
        cut = _cut_unwritten_end(data_dir)
        if cut is None:
            raise DatabaseDamaged(
                f"{damage}. That is not what a power failure leaves, so nothing was changed"
            ) from damage
        try:
            head = _head(data_dir)
        except DatabaseDamaged:
            cut.undo()
            raise
    if as_json:
        click.echo(json.dumps({"removedBytes": cut.removed_bytes if cut else 0, "head": head}, indent=2))
    elif cut is None:
        click.echo(f"nothing to repair; the head is at height {head:,}")
    else:
        click.echo(f"cut {cut.removed_bytes:,} bytes off {cut.log} (a copy of it: {cut.copy}); the head is at {head:,}")


def _head(data_dir: Path) -> int:
    with open_database(data_dir) as store:
        return open_chain(store).head.height


def _cut_unwritten_end(data_dir: Path) -> CutLog | None:
    try:
        return cut_unwritten_end(data_dir / DATABASE_NAME)
    except DatabaseLocked as error:
        raise ChainInUse(data_dir) from error


@db.command("rollback")
@data_dir_option()
@click.option("--to", "target", type=click.IntRange(0), required=True, help="Height that becomes the head.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option()
def rollback(data_dir: Path, target: int, yes: bool, as_json: bool) -> None:
    """Undo the newest blocks, down to a height within the history window.

    The blocks can be fetched or imported again. A validator's signing history is not touched: it still refuses to
    sign anything else at those heights.
    """
    progress = Progress()
    with open_database(data_dir) as store:
        ledger = Ledger(store)
        head, oldest = ledger.head().height, ledger.oldest_state_height()
        if not oldest <= target <= head:
            raise UserError(f"--to: expected a height from {oldest} to {head}, found {target}")
        if target < head and not yes:
            click.confirm(f"Undo {head - target} blocks, so that {target} is the head?", abort=True, err=True)
        for height in range(head, target, -1):
            store.write(rollback_head(store), sync=True)
            progress.update("undone blocks", head - height + 1, head - target)
        found = ledger.head()
        check_head(store, found)
    progress.finish(f"undid {head - target:,} blocks; the head is at height {found.height:,}")
    if as_json:
        click.echo(
            json.dumps(
                {"undone": head - target, "head": found.height, "headHash": f"0x{found.block_hash.hex()}"}, indent=2
            )
        )
