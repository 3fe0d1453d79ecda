"""Joining by a snapshot: whole nodes' states over requests in memory, past peers of every bad kind."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from astralink_node.chain.check import check_database
from astralink_node.chain.client import InProcessExecution
from astralink_node.chain.messages import Status
from astralink_node.chain.snapshot_manifest import Manifest, decode_manifest, encode_manifest
from astralink_node.chain.sync_messages import GetImport, ImportProgress
from astralink_node.evm.blocks import decode_block
from astralink_node.light_client import ForkDetected
from astralink_node.services import snapshot_sync
from astralink_node.services.offload import inline
from astralink_node.services.peer_choice import MAX_AT_A_PEER
from astralink_node.services.snapshot_sync import SNAPSHOT_FROM, SnapshotSync
from astralink_node.services.snapshot_trust import (
    JoiningRules,
    MalformedTrust,
    TrustedBlock,
    TrustNeeded,
    check_trusting_period,
    parse_trust,
)
from astralink_node.services.sync_offences import SyncOffence
from astralink_node.services.sync_protocols import CHUNK, LIGHT_BLOCK, MANIFEST
from astralink_node.state.snapshot_chunks import Chunk, decode_chunk, encode_chunk
from consensus.certificate import decode_certificate
from consensus.evidence_forms import encode_any_evidence
from consensus.forged_header import ForgedHeader
from consensus.light_verification import SignedHeader, trusting_period_ms
from consensus.params import ConsensusParams
from consensus.sync_wire import (
    ManifestReply,
    decode_light_block_reply,
    decode_manifest_reply,
    encode_light_block_reply,
    encode_manifest_reply,
)
from p2p.peer_id import PeerId
from tests.support.chains import GENESIS_TIMESTAMP, commit_certificate
from tests.support.lying_peers import Change, Helpers, Reports
from tests.support.snapshots import EPOCH, MortalStore, ServingChain, genesis_with, new_store, opened

VALIDATORS = 4
ACCOUNTS = 300
PARAMS = ConsensusParams()
SOON_MS = 1000 * GENESIS_TIMESTAMP + 3_600_000
DAY_MS = 86_400_000


class Newcomer:
    """A node with genesis alone."""

    def __init__(
        self,
        helpers: Helpers,
        *,
        store: MortalStore | None = None,
        now_ms: int = SOON_MS,
        trusted: TrustedBlock | None = None,
        epoch_length: int = EPOCH,
    ) -> None:
        self.store = new_store(helpers.chain.genesis) if store is None else store
        self.execution = opened(self.store)
        self.reports = Reports()
        self.requester = helpers.network.join(PeerId(b"newcomer"))
        self.sync = SnapshotSync(
            self.requester,
            InProcessExecution(self.execution),
            helpers.heads,
            JoiningRules(PARAMS, epoch_length, trusted),
            self.reports,
            lambda: now_ms,
            inline,
        )

    def run(self, seconds: float = 60) -> Status:
        async def bounded() -> Status:
            with trio.fail_after(seconds):
                return await self.sync.run()

        return trio.run(bounded, clock=MockClock(autojump_threshold=0))


@pytest.fixture(scope="module")
def source() -> ServingChain:
    chain = ServingChain(genesis_with(ACCOUNTS, validators=VALIDATORS), validators=VALIDATORS)
    chain.advance(3 * EPOCH + 1)
    return chain


@pytest.fixture
def helpers(source: ServingChain) -> Helpers:
    return Helpers(source)


def expect_whole(newcomer: Newcomer, status: Status, source: ServingChain, height: int) -> None:
    assert (status.head_height, status.head_hash) == (height, source.execution.context.block_hash_at(height))
    assert check_database(newcomer.store, lambda *_: None).problems == []


def test_a_new_node_begins_with_the_newest_snapshot(source: ServingChain, helpers: Helpers) -> None:
    peers = {helpers.join(name, delay_s=0.05) for name in ("one", "two", "three")}
    newcomer = Newcomer(helpers)
    expect_whole(newcomer, newcomer.run(), source, 3 * EPOCH - 1)
    assert newcomer.reports.noted == []
    assert set(helpers.served) == peers


def altered_chunk(change: Callable[[Chunk], Chunk]) -> Change:
    return lambda _, honest: encode_chunk(change(decode_chunk(honest)))


def altered_manifest(change: Callable[[Manifest], Manifest]) -> Change:
    def change_reply(_: bytes, honest: bytes) -> bytes:
        reply = decode_manifest_reply(honest)
        return encode_manifest_reply(replace(reply, part=encode_manifest(change(decode_manifest(reply.part)))))

    return change_reply


def other_balance(chunk: Chunk) -> Chunk:
    first, *rest = chunk.accounts
    raw = first.raw_account
    return replace(chunk, accounts=(replace(first, raw_account=raw[:-1] + bytes([raw[-1] ^ 1])), *rest))


def an_account_more(chunk: Chunk) -> Chunk:
    first = chunk.accounts[0]
    key = first.address_hash[:-1] + bytes([first.address_hash[-1] ^ 1])
    added = replace(first, address_hash=key)
    return replace(chunk, accounts=tuple(sorted((added, *chunk.accounts), key=lambda one: one.address_hash)))


CHUNK_LIES: dict[str, tuple[Change, SyncOffence]] = {
    "truncated": (lambda _, honest: honest[:-3], SyncOffence.MALFORMED),
    "nothing": (lambda _, honest: b"", SyncOffence.MALFORMED),
    "an account missing": (
        altered_chunk(lambda chunk: replace(chunk, accounts=chunk.accounts[:2] + chunk.accounts[3:])),
        SyncOffence.WRONG_CHUNK,
    ),
    "the first account missing": (
        altered_chunk(lambda chunk: replace(chunk, accounts=chunk.accounts[1:])),
        SyncOffence.WRONG_CHUNK,
    ),
    "the last account missing": (
        altered_chunk(lambda chunk: replace(chunk, accounts=chunk.accounts[:-1])),
        SyncOffence.WRONG_CHUNK,
    ),
    "an account more": (altered_chunk(an_account_more), SyncOffence.WRONG_CHUNK),
    "another balance": (altered_chunk(other_balance), SyncOffence.WRONG_CHUNK),
    "another code": (
        altered_chunk(lambda chunk: replace(chunk, codes=(*chunk.codes[:-1], b"\xfe\xed"))),
        SyncOffence.WRONG_CHUNK,
    ),
    "no boundary": (altered_chunk(lambda chunk: replace(chunk, nodes=())), SyncOffence.WRONG_CHUNK),
}


@pytest.mark.parametrize("lie", CHUNK_LIES)
def test_the_first_wrong_chunk_convicts_its_sender(lie: str, source: ServingChain, helpers: Helpers) -> None:
    change, offence = CHUNK_LIES[lie]
    liar = helpers.join("liar", protocol=CHUNK, change=change)
    helpers.join("honest", delay_s=0.05)
    newcomer = Newcomer(helpers)
    expect_whole(newcomer, newcomer.run(), source, 3 * EPOCH - 1)
    assert {peer for peer, _, _ in newcomer.reports.noted} == {liar}
    assert newcomer.reports.of(liar) == {offence}
    assert len(newcomer.reports.noted) == 1
    assert newcomer.requester.asked.count((liar, CHUNK.name)) <= 2 * MAX_AT_A_PEER, "those that were under way"


def outvoted(manifest: Manifest) -> Manifest:
    """A certificate by one validator of four."""
    chain = ServingChain(genesis_with(ACCOUNTS, validators=VALIDATORS), validators=VALIDATORS)
    header = decode_block(manifest.raw_block).block.header
    certificate = commit_certificate(
        chain.secrets, chain.execution.context.genesis_hash, header.number, header.hash, signers=[0]
    )
    return replace(manifest, certificate=certificate)


MANIFEST_LIES: dict[str, tuple[Change, SyncOffence]] = {
    "signed by one of four": (altered_manifest(outvoted), SyncOffence.WRONG_MANIFEST),
    "other receipts": (
        altered_manifest(lambda good: replace(good, raw_receipts=good.raw_receipts[:-1])),
        SyncOffence.WRONG_MANIFEST,
    ),
    "a header missing": (
        altered_manifest(lambda good: replace(good, raw_headers=good.raw_headers[1:])),
        SyncOffence.WRONG_MANIFEST,
    ),
    "truncated": (lambda _, honest: honest[:-1], SyncOffence.WRONG_MANIFEST),
    "cut short": (lambda _, honest: honest[:5], SyncOffence.MALFORMED),
    "too long": (lambda _, honest: honest + bytes(MANIFEST.max_answer_bytes), SyncOffence.MALFORMED),
}


@pytest.mark.parametrize("lie", MANIFEST_LIES)
def test_a_wrong_manifest_convicts_its_sender(lie: str, source: ServingChain, helpers: Helpers) -> None:
    change, offence = MANIFEST_LIES[lie]
    liar = helpers.join("liar", protocol=MANIFEST, change=change)
    helpers.join("honest", delay_s=0.05)
    newcomer = Newcomer(helpers)
    expect_whole(newcomer, newcomer.run(), source, 3 * EPOCH - 1)
    assert newcomer.reports.of(liar) == {offence}
    assert {peer for peer, _, _ in newcomer.reports.noted} == {liar}
    assert (liar, CHUNK.name) not in newcomer.requester.asked


def test_a_chain_that_other_validators_made_is_not_joined(source: ServingChain, helpers: Helpers) -> None:
    """A snapshot that is whole and certified, by validators who are not ours."""
    other = ServingChain(genesis_with(ACCOUNTS, validators=1))
    other.advance(3 * EPOCH + 1)
    forged = encode_manifest_reply(ManifestReply(3 * EPOCH - 1, 1, other.manifest(3 * EPOCH - 1)))
    liar = helpers.join("liar", protocol=MANIFEST, change=lambda _, honest: forged)
    helpers.join("honest", delay_s=0.05)
    newcomer = Newcomer(helpers)
    expect_whole(newcomer, newcomer.run(), source, 3 * EPOCH - 1)
    assert newcomer.reports.of(liar) == {SyncOffence.WRONG_MANIFEST}


def test_a_fork_on_the_way_leaves_the_operator_what_to_hand_in(
    source: ServingChain, helpers: Helpers, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Two certified headers on different parents, as a light client that follows a liar meets them."""
    certificate = decode_certificate(source.execution.status().head_certificate)
    known, other = (
        SignedHeader(certificate.height, 0, bytes([mark]) * 32, bytes([mark]) * 32, bytes(32), bytes(32), certificate)
        for mark in (1, 2)
    )
    fork, believe = ForkDetected(known, other, (b"", b"the other header")), snapshot_sync.believe_manifest

    async def believe_second(*arguments: Any) -> Manifest:
        monkeypatch.setattr(snapshot_sync, "believe_manifest", believe)
        raise fork

    monkeypatch.setattr(snapshot_sync, "believe_manifest", believe_second)
    for name in ("one", "two"):
        helpers.join(name)
    newcomer = Newcomer(helpers)
    expect_whole(newcomer, newcomer.run(), source, 3 * EPOCH - 1)
    assert [offence for _, offence, _ in newcomer.reports.noted] == [SyncOffence.WRONG_LIGHT_BLOCK]
    (said,) = [record for record in caplog.records if "astralink_submitEvidence" in record.getMessage()]
    evidence = ForgedHeader(b"the other header", certificate)
    assert vars(said)["fields"]["evidence"] == f"0x{encode_any_evidence(evidence).hex()}"


def test_twenty_thousand_accounts_arrive_while_the_chain_advances() -> None:
    chain = ServingChain(genesis_with(20_000, validators=VALIDATORS, epoch_length=20), validators=VALIDATORS)
    chain.advance(40)
    helpers = Helpers(chain)

    def advance(_: bytes, honest: bytes) -> bytes:
        chain.advance(1)
        return honest

    helpers.join("one", protocol=CHUNK, change=advance)
    helpers.join("two")
    newcomer = Newcomer(helpers, epoch_length=20)
    expect_whole(newcomer, newcomer.run(), chain, 39)
    assert chain.execution.status().head_height > 42


def test_a_slow_peer_does_not_hold_the_import_up(source: ServingChain, helpers: Helpers) -> None:
    slow = helpers.join("slow", delay_s=60)
    helpers.join("quick", delay_s=0.05)
    newcomer = Newcomer(helpers)
    expect_whole(newcomer, newcomer.run(seconds=30), source, 3 * EPOCH - 1)
    assert newcomer.reports.of(slow) == {SyncOffence.TOO_SLOW}


def test_a_snapshot_that_nobody_serves_any_more_is_begun_anew() -> None:
    chain = ServingChain(genesis_with(ACCOUNTS, validators=VALIDATORS), validators=VALIDATORS)
    chain.advance(2 * EPOCH)
    helpers = Helpers(chain)
    given = 0

    def move_on(_: bytes, honest: bytes) -> bytes:
        nonlocal given
        given += 1
        if given == 5:
            chain.advance(3 * EPOCH)
        return honest

    helpers.join("one", protocol=CHUNK, change=move_on)
    newcomer = Newcomer(helpers)
    status = newcomer.run(seconds=120)
    expect_whole(newcomer, status, chain, chain.heights()[-1])
    assert status.head_height > 2 * EPOCH


def test_an_interrupted_import_goes_on_with_what_is_missing(source: ServingChain, helpers: Helpers) -> None:
    given = 0
    interrupted = trio.Event()

    def count(_: bytes, honest: bytes) -> bytes:
        nonlocal given
        given += 1
        if given == 8:
            interrupted.set()
        return honest

    helpers.join("one", protocol=CHUNK, change=count, delay_s=0.05)
    first = Newcomer(helpers)

    async def run_until_interrupted() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(first.sync.run)
            await interrupted.wait()
            await trio.sleep(0.01)
            nursery.cancel_scope.cancel()

    trio.run(run_until_interrupted, clock=MockClock(autojump_threshold=0))
    before = first.execution.import_state(GetImport())
    assert isinstance(before, ImportProgress)
    assert 0 < len(before.missing) < 16
    given = 0
    second = Newcomer(helpers, store=first.store)
    assert trio.run(second.sync.is_wanted)
    expect_whole(second, second.run(), source, 3 * EPOCH - 1)
    assert given == len(before.missing)


def test_a_snapshot_is_wanted_by_new_nodes_of_long_chains_alone(helpers: Helpers) -> None:
    helpers.join("near")
    newcomer = Newcomer(helpers)
    assert not trio.run(newcomer.sync.is_wanted)
    helpers.join("far", head=SNAPSHOT_FROM)
    assert trio.run(newcomer.sync.is_wanted)
    newcomer.run()
    assert not trio.run(newcomer.sync.is_wanted)


# --- Trust -------------------------------------------------------------------------------------------------------


def test_a_genesis_older_than_the_trusting_period_is_no_beginning(helpers: Helpers) -> None:
    helpers.join("one")
    late_ms = 1000 * GENESIS_TIMESTAMP + trusting_period_ms(PARAMS)
    with pytest.raises(TrustNeeded, match=r"genesis is 10 days old.*--trust HEIGHT:HASH"):
        Newcomer(helpers, now_ms=late_ms).run()


def test_with_trust_it_is_verified_from_there(source: ServingChain, helpers: Helpers) -> None:
    helpers.join("one")
    # The chain's blocks are moments after genesis, so that they are as old: the period is measured from the trusted
    # one. Here it is just not over.
    block_hash = source.execution.context.block_hash_at(2 * EPOCH)
    late_ms = 1000 * GENESIS_TIMESTAMP + trusting_period_ms(PARAMS) + 1
    newcomer = Newcomer(helpers, now_ms=late_ms, trusted=TrustedBlock(2 * EPOCH, block_hash))
    expect_whole(newcomer, newcomer.run(), source, 3 * EPOCH - 1)


def test_a_trusted_block_that_is_too_old_itself_is_no_beginning(source: ServingChain, helpers: Helpers) -> None:
    helpers.join("one")
    block_hash = source.execution.context.block_hash_at(2 * EPOCH)
    late_ms = 1000 * GENESIS_TIMESTAMP + trusting_period_ms(PARAMS) + DAY_MS
    with pytest.raises(TrustNeeded, match=r"the newest block that this node knows, 10, is 11 days old"):
        Newcomer(helpers, now_ms=late_ms, trusted=TrustedBlock(2 * EPOCH, block_hash)).run()


def test_whoever_gives_another_block_than_the_trusted_one_is_convicted(source: ServingChain, helpers: Helpers) -> None:
    def other_height(_: bytes, honest: bytes) -> bytes:
        reply = decode_light_block_reply(honest)
        return encode_light_block_reply(replace(reply, raw_header=reply.raw_header[:-1] + b"\x00"))

    liar = helpers.join("liar", protocol=LIGHT_BLOCK, change=other_height)
    helpers.join("honest", delay_s=0.05)
    block_hash = source.execution.context.block_hash_at(2 * EPOCH)
    newcomer = Newcomer(helpers, trusted=TrustedBlock(2 * EPOCH, block_hash))
    expect_whole(newcomer, newcomer.run(), source, 3 * EPOCH - 1)
    assert newcomer.reports.of(liar) == {SyncOffence.WRONG_LIGHT_BLOCK}


def test_a_wrong_trusted_hash_joins_nothing(source: ServingChain, helpers: Helpers) -> None:
    helpers.join("one")
    newcomer = Newcomer(helpers, trusted=TrustedBlock(2 * EPOCH, b"\x01" * 32))
    with pytest.raises(trio.TooSlowError):
        newcomer.run(seconds=5)
    assert newcomer.execution.status().head_height == 0


def test_the_trusting_period_ends_to_the_millisecond() -> None:
    period = trusting_period_ms(PARAMS)
    check_trusting_period(7, 1_000, 1_000 + period - 1, PARAMS)
    with pytest.raises(TrustNeeded) as needed:
        check_trusting_period(7, 1_000, 1_000 + period, PARAMS)
    assert (needed.value.height, needed.value.age_ms, needed.value.period_ms) == (7, period, period)


def test_trust_is_a_height_and_a_hash() -> None:
    assert parse_trust("12:0x" + "ab" * 32) == parse_trust("12:" + "AB" * 32) == TrustedBlock(12, b"\xab" * 32)


@pytest.mark.parametrize(
    "text", ["", "12", "12:", ":" + "ab" * 32, "0:" + "ab" * 32, "-1:" + "ab" * 32, "12:ab", "x:y"]
)
def test_anything_else_is_no_trust(text: str) -> None:
    with pytest.raises(MalformedTrust, match="--trust"):
        parse_trust(text)
