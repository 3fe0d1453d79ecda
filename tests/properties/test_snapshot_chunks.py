"""Random histories: the state of any height travels in chunks of any size and arrives whole, or is refused."""

from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from astralink_node.chain.queries import no_interrupt
from astralink_node.crypto.keccak import keccak256
from astralink_node.state.accounts import decode_account, encode_integer
from astralink_node.state.commitment import commit_changes
from astralink_node.state.flat_state import HeadState
from astralink_node.state.overlay import Overlay
from astralink_node.state.range_proofs import FIRST_KEY, LAST_KEY, RangeRefused
from astralink_node.state.rebuild import rebuild_trie
from astralink_node.state.reverse_diffs import HistoricalReader, reverse_diff
from astralink_node.state.snapshot_chunks import (
    Chunk,
    Position,
    decode_chunk,
    encode_chunk,
    read_chunk,
    verify_chunk,
)
from astralink_node.storage import keys
from astralink_node.storage.memory import MemoryStore
from astralink_node.types import EMPTY_TRIE_ROOT, Address, Hash32

ADDRESSES = [Address(bytes([number]) * 20) for number in range(8)]
CHANGE = st.tuples(
    st.sampled_from(ADDRESSES),
    st.one_of(
        st.tuples(st.just("slot"), st.integers(0, 5), st.sampled_from([0, 1, 2**40, 2**256 - 1])),
        st.tuples(st.just("balance"), st.just(0), st.integers(0, 3)),
        st.tuples(st.just("code"), st.just(0), st.integers(0, 3)),
        st.tuples(st.just("delete"), st.just(0), st.just(0)),
    ),
)
BLOCKS = st.lists(st.lists(CHANGE, max_size=8), min_size=1, max_size=6)
TARGETS = st.sampled_from([1, 120, 400, 1 << 20])
SPLITS = st.sampled_from([[LAST_KEY], [b"\x7f" + b"\xff" * 31, LAST_KEY], [b"\x3f" * 32, b"\xbf" * 32, LAST_KEY]])


class History:
    def __init__(self, blocks: list[list[tuple[Address, tuple[str, int, int]]]]) -> None:
        self.store = MemoryStore()
        self.roots: list[Hash32] = [EMPTY_TRIE_ROOT]
        self.contents: list[dict[bytes, bytes]] = [{}]
        for height, block in enumerate(blocks, start=1):
            overlay = Overlay(HeadState(self.store))
            for address, (what, slot, value) in block:
                if what == "slot":
                    overlay.set_storage(address, slot, value)
                elif what == "balance":
                    overlay.set_balance(address, value)
                elif what == "code":
                    overlay.set_code(address, bytes(value))
                else:
                    overlay.delete_account(address)
            update = commit_changes(self.store, self.roots[-1], overlay.changes())
            self.store.write({**update.writes, **reverse_diff(update.previous, height)}, sync=True)
            self.roots.append(update.state_root)
            self.contents.append(dict(self.store.iterate(b"", b"\xff" * 8)))

    def tables(self, height: int, *tables: bytes) -> dict[bytes, bytes]:
        return {key: value for key, value in self.contents[height].items() if key[:1] in tables}

    def chunks(self, height: int, ends: list[bytes], target: int) -> list[tuple[Chunk, Position, bytes]]:
        """All chunks of one height with what was asked for."""
        reader, found = HistoricalReader(self.store, height), []
        start_account = FIRST_KEY
        for last in ends:
            position: Position | None = Position(start_account)
            while position is not None:
                chunk = read_chunk(reader, self.roots[height], position, last, no_interrupt, target)
                assert chunk is not None
                assert decode_chunk(encode_chunk(chunk)) == chunk
                found.append((chunk, position, last))
                position = verify_chunk(chunk, self.roots[height], position, last).next_position
            start_account = (int.from_bytes(last, "big") + 1).to_bytes(33, "big")[1:]
        return found


@settings(deadline=None, max_examples=150)
@given(blocks=BLOCKS, ends=SPLITS, target=TARGETS, data=st.data())
def test_the_state_of_any_height_arrives_whole(
    blocks: list[list[tuple[Address, tuple[str, int, int]]]], ends: list[bytes], target: int, data: st.DataObject
) -> None:
    history = History(blocks)
    height = data.draw(st.integers(0, len(blocks)))
    root = history.roots[height]
    arrived: dict[bytes, bytes | None] = {}
    for chunk, position, last in history.chunks(height, ends, target):
        arrived |= verify_chunk(chunk, root, position, last).writes
    flat = history.tables(height, keys.ACCOUNTS, keys.STORAGE)
    assert {key: value for key, value in arrived.items() if key[:1] != keys.CODES} == flat
    codes = {decode_account(value).code_hash for key, value in flat.items() if key[:1] == keys.ACCOUNTS}
    assert {key[1:] for key in arrived if key[:1] == keys.CODES} == codes - {keccak256(b"")}
    nodes: dict[bytes, bytes] = {}
    accounts = sorted((key[1:], value) for key, value in flat.items() if key[:1] == keys.ACCOUNTS)
    for address_hash, raw_account in accounts:
        slots = sorted(
            (key[33:], encode_integer(int.from_bytes(value, "big")))
            for key, value in flat.items()
            if key.startswith(keys.storage_prefix(address_hash))
        )
        storage_root = decode_account(raw_account).storage_root
        assert rebuild_trie(slots, keys.storage_nodes_prefix(address_hash), nodes.__setitem__) == storage_root
    assert rebuild_trie(accounts, keys.ACCOUNT_NODES, nodes.__setitem__) == root
    assert nodes == history.tables(height, keys.ACCOUNT_NODES, keys.STORAGE_NODES)


def _forge(chunk: Chunk, data: st.DataObject) -> Chunk:
    """The chunk with one lie."""
    at = data.draw(st.integers(0, max(0, len(chunk.accounts) - 1)))
    account = chunk.accounts[at] if chunk.accounts else None
    lies = ["complete", "cut", "node", "spare node", "code", "spare code"]
    if account is not None:
        lies += ["omit", "rename", "balance"] + (["slot omit", "slot value", "leading zero"] if account.slots else [])
    lie = data.draw(st.sampled_from(lies))
    others = (*chunk.accounts[:at],), (*chunk.accounts[at + 1 :],)
    match lie:
        case "complete":
            return replace(chunk, is_complete=not chunk.is_complete)
        case "cut":
            return replace(chunk, is_cut=not chunk.is_cut)
        case "node":
            assume(chunk.nodes)
            return replace(chunk, nodes=chunk.nodes[1:])
        case "spare node":
            return replace(chunk, nodes=(*chunk.nodes, b"\xc2\x80\x80"))
        case "code":
            assume(chunk.codes)
            return replace(chunk, codes=(b"\xfe" * 30, *chunk.codes[1:]))
        case "spare code":
            return replace(chunk, codes=(*chunk.codes, b"\xfe"))
    assert account is not None
    match lie:
        case "omit":
            return replace(chunk, accounts=others[0] + others[1])
        case "rename":
            changed = replace(account, address_hash=keccak256(account.address_hash))
        case "balance":
            changed = replace(account, raw_account=account.raw_account[:2] + b"\x7f" + account.raw_account[3:])
        case "slot omit":
            changed = replace(account, slots=account.slots[1:])
        case "slot value":
            changed = replace(account, slots=((account.slots[0][0], b"\x63"), *account.slots[1:]))
        case "leading zero":
            slot_hash, value = account.slots[0]
            changed = replace(account, slots=((slot_hash, b"\x00" + value), *account.slots[1:]))
    return replace(chunk, accounts=(*others[0], changed, *others[1]))


@settings(deadline=None, max_examples=400)
@given(blocks=BLOCKS, ends=SPLITS, target=TARGETS, data=st.data())
def test_a_lie_in_one_chunk_convicts_that_chunk(
    blocks: list[list[tuple[Address, tuple[str, int, int]]]], ends: list[bytes], target: int, data: st.DataObject
) -> None:
    history = History(blocks)
    height = data.draw(st.integers(0, len(blocks)))
    chunk, position, last = data.draw(st.sampled_from(history.chunks(height, ends, target)))
    forged = _forge(chunk, data)
    assume(forged != chunk)
    try:
        verified = verify_chunk(forged, history.roots[height], position, last)
    except RangeRefused:
        return
    # The one change that is no lie: an honest end may be said sooner or later, and then comes in the next chunk.
    assert (forged.accounts, forged.codes, forged.nodes) == (chunk.accounts, chunk.codes, chunk.nodes)
    assert verified.writes == verify_chunk(chunk, history.roots[height], position, last).writes


@settings(deadline=None, max_examples=300)
@given(data=st.binary(max_size=300))
def test_any_bytes_are_a_chunk_or_refused(data: bytes) -> None:
    try:
        chunk = decode_chunk(data)
    except RangeRefused as refusal:
        rule = refusal.rule
    else:
        rule = "encoding"
        assert encode_chunk(chunk) == data
    assert rule == "encoding"


def test_a_truncated_chunk_is_refused() -> None:
    history = History([[(address, ("slot", 1, 5)) for address in ADDRESSES]])
    (chunk, _, _), *_ = history.chunks(1, [LAST_KEY], 1 << 20)
    encoded = encode_chunk(chunk)
    for length in range(len(encoded)):
        with pytest.raises(RangeRefused):
            decode_chunk(encoded[:length])
