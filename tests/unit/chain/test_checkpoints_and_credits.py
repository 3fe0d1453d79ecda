"""Blocks that carry a quantum-safe checkpoint or late credits: built, judged, committed, indexed, rolled back."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from astralink_node.chain.check import check_database
from astralink_node.chain.commits import rollback_head
from astralink_node.chain.consensus_messages import CheckpointAnswer, CheckpointQuestion
from astralink_node.chain.ledger import Ledger
from astralink_node.chain.messages import (
    AtLatest,
    Build,
    Built,
    CannotBuild,
    Invalid,
    NotFound,
    Query,
    Valid,
    Validate,
)
from astralink_node.crypto import ml_dsa
from astralink_node.crypto.keccak import keccak256
from astralink_node.evm.blocks import Block, SealedBlock, decode_block, encode_block
from astralink_node.storage import keys
from astralink_node.storage.memory import MemoryStore
from consensus.certificate import bitmap_of
from consensus.checkpoint import ML_DSA_KEY_BYTES, ML_DSA_SIGNATURE_BYTES, decode_checkpoint
from consensus.checkpoint import encode_checkpoint as encoded
from consensus.payload import decode_payload, encode_payload, payload_root
from tests.support.chains import (
    CONTRACTS,
    LocalChain,
    checkpoint_seed,
    commit_certificate,
    genesis_text,
    sign_checkpoint,
)

EPOCH_LENGTH = 3
VALIDATORS = 4
GENESIS = genesis_text(VALIDATORS, extra_alloc=CONTRACTS, epoch_length=EPOCH_LENGTH)


def chain_of_height(height: int) -> LocalChain:
    chain = LocalChain(genesis=GENESIS, validators=VALIDATORS)
    for _ in range(height):
        chain.produce()
    return chain


def with_checkpoint(built: Built, checkpoint: bytes) -> bytes:
    """The block with another checkpoint in its payload; everything that commits to the payload follows."""
    sealed = decode_block(built.raw_block)
    payload = replace(decode_payload(sealed.raw_payload), checkpoint=checkpoint, checkpoint_hash=keccak256(checkpoint))
    header = replace(sealed.block.header, parent_beacon_block_root=payload_root(payload))  # type: ignore[arg-type]
    return encode_block(SealedBlock(Block(header, sealed.block.raw_transactions), encode_payload(payload)))


def judged(chain: LocalChain, raw_block: bytes) -> str:
    """The broken rule; empty if the block is valid."""
    answer = chain.execution.validate(Validate(raw_block))
    assert isinstance(answer, Valid | Invalid)
    return answer.rule if isinstance(answer, Invalid) else ""


@cache
def chain_and_checkpoint() -> tuple[LocalChain, bytes]:
    chain = chain_of_height(3)
    return chain, encoded(chain.checkpoint(0))


def refusal(chain: LocalChain, request: Build) -> str:
    answer = chain.execution.build(request)
    assert isinstance(answer, CannotBuild), answer
    return answer.reason


def asked(chain: LocalChain, epoch: int | None) -> object:
    return chain.execution.query(Query(AtLatest(), CheckpointQuestion(epoch)))


# --- Checkpoints -----------------------------------------------------------------------------------------------


def test_a_block_with_the_epochs_checkpoint_is_valid_for_everybody_and_its_leaf_stays() -> None:
    proposer, follower = chain_of_height(3), chain_of_height(3)
    checkpoint = encoded(proposer.checkpoint(0, signers=[0, 2, 3]))
    built = proposer.build(checkpoint=checkpoint)
    committed = follower.follow(built, proposer.certificate(built.block_hash))
    assert proposer.commit(built.block_hash) == committed
    assert committed.checkpoint_epoch == 0
    child = proposer.produce()
    payload = decode_payload(child.block.raw_payload)
    assert (payload.checkpoint, payload.checkpoint_hash) == (b"", keccak256(checkpoint))
    assert child.checkpoint_epoch == 0


def test_a_checkpoint_is_found_by_its_epoch_and_as_the_latest() -> None:
    chain = chain_of_height(3)
    assert asked(chain, None) == NotFound("a checkpoint: no block carries one yet")
    first = encoded(chain.checkpoint(0))
    chain.produce(checkpoint=first)
    assert asked(chain, 0) == asked(chain, None) == CheckpointAnswer(first, 4)
    for _ in range(3):
        chain.produce()
    third = encoded(chain.checkpoint(1))
    chain.produce(checkpoint=third)
    assert asked(chain, None) == asked(chain, 1) == CheckpointAnswer(third, 8)
    assert asked(chain, 0) == CheckpointAnswer(first, 4)
    for missing in (2, -1, 2**64):
        assert isinstance(asked(chain, missing), NotFound)


def test_a_reopened_chain_knows_the_latest_checkpoint() -> None:
    chain = chain_of_height(3)
    chain.produce(checkpoint=encoded(chain.checkpoint(0)))
    again = chain.reopened()
    assert again.execution.context.latest_checkpoint_epoch == 0
    assert again.execution.status() == chain.execution.status()
    assert "checkpoint epoch" in refusal(again, again.build_request(checkpoint=encoded(again.checkpoint(0))))


def test_an_epoch_may_be_passed_over_but_never_come_later() -> None:
    chain = chain_of_height(6)
    chain.produce(checkpoint=encoded(chain.checkpoint(1)))
    assert chain.execution.status().checkpoint_epoch == 1
    assert "checkpoint epoch: expected above 1, found 0" in refusal(
        chain, chain.build_request(checkpoint=encoded(chain.checkpoint(0)))
    )


def test_a_checkpoint_goes_into_the_block_after_its_epochs_last_at_the_earliest() -> None:
    chain = chain_of_height(2)
    checkpoint = encoded(chain.checkpoint(0))
    assert chain.build(checkpoint=checkpoint)
    early = chain_of_height(1)
    assert judged(early, with_checkpoint(early.build(), checkpoint)) == "checkpoint height"
    assert "checkpoint height: expected below 2, found 2" in refusal(early, early.build_request(checkpoint=checkpoint))


def swapped_halves(values: Sequence[bytes]) -> tuple[bytes, ...]:
    return (*values[2:], *values[:2])


@pytest.fixture(scope="module")
def chain() -> LocalChain:
    chain = chain_of_height(6)
    chain.produce(checkpoint=encoded(chain.checkpoint(0)))
    return chain


@pytest.fixture(scope="module")
def built(chain: LocalChain) -> Built:
    return chain.build()


@pytest.mark.parametrize(
    ("options", "change", "rule"),
    [
        ({}, {}, ""),
        ({"signers": [1, 2, 3]}, {}, ""),
        ({"signers": [0, 3]}, {}, "checkpoint quorum"),
        ({"epoch": 0, "height": 2}, {}, "checkpoint epoch"),
        ({"epoch": 2, "height": 8}, {}, "checkpoint height"),
        ({"epoch": 2**64 - 1}, {}, "checkpoint height"),
        ({"height": 4}, {}, "checkpoint height"),
        ({"height": 6}, {}, "checkpoint height"),
        ({"block_hash": b"\x01" * 32}, {}, "checkpoint block"),
        ({"next_set_hash": b"\x01" * 32}, {}, "checkpoint next set"),
        ({}, {"signers": b"\x0f\x00"}, "checkpoint bitmap_length"),
        ({}, {"signers": b"\xf0"}, "checkpoint bitmap_length"),
        ({"signers": [0, 1, 2]}, {"signers": bitmap_of([0, 1, 3], 4)}, "checkpoint key"),
        ({}, {"keys": (bytes(ML_DSA_KEY_BYTES),) * 4}, "checkpoint key"),
        ({}, {"signatures": (bytes(ML_DSA_SIGNATURE_BYTES),) * 4}, "checkpoint signature"),
    ],
    ids=str,
)
def test_a_checkpoint_is_judged_by_its_rules(
    chain: LocalChain, built: Built, options: dict[str, Any], change: dict[str, Any], rule: str
) -> None:
    checkpoint = replace(chain.checkpoint(1, **options), **change)
    found = judged(chain, with_checkpoint(built, encoded(checkpoint)))
    # With a valid checkpoint only the state root is another: EIP-4788 stores the payload's root.
    assert found == (rule or "state root")
    if rule:
        assert refusal(chain, chain.build_request(checkpoint=encoded(checkpoint))).startswith(rule)
    else:
        assert chain.build(checkpoint=encoded(checkpoint))


def test_signatures_of_other_members_do_not_count(chain: LocalChain, built: Built) -> None:
    checkpoint = chain.checkpoint(1)
    mixed = replace(checkpoint, signatures=swapped_halves(checkpoint.signatures))
    assert judged(chain, with_checkpoint(built, encoded(mixed))) == "checkpoint signature"
    mixed = replace(mixed, keys=swapped_halves(checkpoint.keys))
    assert judged(chain, with_checkpoint(built, encoded(mixed))) == "checkpoint key"


def test_a_checkpoint_of_another_network_is_refused(chain: LocalChain, built: Built) -> None:
    other = LocalChain(genesis=genesis_text(VALIDATORS, epoch_length=EPOCH_LENGTH, timestamp=5), validators=VALIDATORS)
    context = chain.execution.context
    checkpoint = sign_checkpoint(
        chain.checkpoint(1), context.voting_set, VALIDATORS, other.execution.context.genesis_hash, range(VALIDATORS)
    )
    assert judged(chain, with_checkpoint(built, encoded(checkpoint))) == "checkpoint signature"


@pytest.mark.parametrize("size", [1, 100, 5_000])
def test_bytes_that_are_no_checkpoint_are_refused(chain: LocalChain, built: Built, size: int) -> None:
    assert judged(chain, with_checkpoint(built, b"\x01" * size)).startswith("checkpoint encoding: ")
    assert refusal(chain, chain.build_request(checkpoint=b"\x01" * size)).startswith("checkpoint encoding: ")


def test_surplus_bytes_after_a_checkpoint_are_refused(chain: LocalChain, built: Built) -> None:
    surplus = encoded(chain.checkpoint(1)) + b"\x00"
    assert judged(chain, with_checkpoint(built, surplus)) == "checkpoint encoding: end"


@settings(max_examples=60, deadline=None)
@given(position=st.integers(0), mask=st.integers(1, 255), cut=st.integers(0, 3))
def test_a_damaged_checkpoint_breaks_a_rule_and_is_never_an_error(position: int, mask: int, cut: int) -> None:
    chain, raw_checkpoint = chain_and_checkpoint()
    damaged = bytearray(raw_checkpoint[: len(raw_checkpoint) - cut])
    # Most bytes are keys and signatures: let every second example hit the fields before them.
    index = position % (len(damaged) if position % 2 else 90)
    damaged[index] ^= mask
    assert refusal(chain, chain.build_request(checkpoint=bytes(damaged))).startswith("checkpoint ")


def test_a_leaf_that_is_not_the_parents_needs_a_checkpoint(chain: LocalChain, built: Built) -> None:
    sealed = decode_block(built.raw_block)
    payload = replace(decode_payload(sealed.raw_payload), checkpoint_hash=bytes(32))
    header = replace(sealed.block.header, parent_beacon_block_root=payload_root(payload))  # type: ignore[arg-type]
    raw_block = encode_block(SealedBlock(Block(header, sealed.block.raw_transactions), encode_payload(payload)))
    assert judged(chain, raw_block) == "checkpoint hash"


def test_a_checkpoint_of_three_hundred_signers_comes_as_far_as_its_rules() -> None:
    chain = chain_of_height(3)
    small = chain.checkpoint(0)
    large = replace(small, signers=b"\xff" * 38, keys=(small.keys[0],) * 304, signatures=(small.signatures[0],) * 304)
    assert judged(chain, with_checkpoint(chain.build(), encoded(large))) == "checkpoint bitmap_length"


def test_a_rollback_takes_the_checkpoint_back() -> None:
    chain = chain_of_height(3)
    before = dict(chain.store.iterate(b"", b"\xff"))
    checkpoint = encoded(chain.checkpoint(0))
    chain.produce(checkpoint=checkpoint)
    assert Ledger(chain.store).checkpoint_height(0) == 4
    chain.store.write(rollback_head(chain.store), sync=True)
    after = dict(chain.store.iterate(b"", b"\xff"))
    before.pop(keys.HEAD_TOUCHED_KEY)
    assert after == before
    again = chain.reopened()
    assert again.execution.context.latest_checkpoint_epoch == -1
    again.produce(checkpoint=checkpoint)


def test_a_rollback_of_a_later_block_leaves_the_checkpoint() -> None:
    chain = chain_of_height(3)
    chain.produce(checkpoint=encoded(chain.checkpoint(0)))
    chain.produce()
    chain.store.write(rollback_head(chain.store), sync=True)
    assert chain.reopened().execution.context.latest_checkpoint_epoch == 0


def test_the_check_of_a_database_includes_checkpoints() -> None:
    chain = chain_of_height(3)
    chain.produce(checkpoint=encoded(chain.checkpoint(0)))
    chain.produce()
    assert problems(chain.store) == []
    for key, value, expected in (
        (keys.checkpoint_key(0), None, "block 4: the index of checkpoints does not name it"),
        (keys.checkpoint_key(0), keys.encode_height(3), "names block 3, which carries none of epoch 0"),
        (keys.checkpoint_key(5), keys.encode_height(4), "names block 4, which carries none of epoch 5"),
        (keys.checkpoint_key(5), keys.encode_height(40), "names block 40, which carries none of epoch 5"),
    ):
        store = MemoryStore()
        store.write({**dict(chain.store.iterate(b"", b"\xff")), key: value}, sync=True)
        assert any(expected in problem for problem in problems(store)), expected


def test_the_check_of_a_database_verifies_what_a_checkpoint_holds() -> None:
    chain = chain_of_height(3)
    committed = chain.produce(checkpoint=encoded(chain.checkpoint(0)))
    payload = decode_payload(committed.block.raw_payload)
    broken = replace(decode_checkpoint(payload.checkpoint), signatures=(bytes(ML_DSA_SIGNATURE_BYTES),) * VALIDATORS)
    changed = replace(payload, checkpoint=encoded(broken), checkpoint_hash=keccak256(encoded(broken)))
    chain.store.write({keys.payload_key(4): encode_payload(changed)}, sync=True)
    assert any("block 4: its checkpoint does not hold: signature" in problem for problem in problems(chain.store))


def problems(store: Any) -> list[str]:
    return check_database(store, lambda *_: None).problems


# --- Late credits ----------------------------------------------------------------------------------------------


def credit(chain: LocalChain, height: int, signers: Sequence[int] = (3,), **options: Any) -> bytes:
    context = chain.execution.context
    block_hash = options.pop("block_hash", context.block_hash_at(height))
    return commit_certificate(chain.secrets, context.genesis_hash, height, block_hash, signers=signers, **options)


def test_late_credits_of_a_proposer_stand_in_its_block_and_are_valid_for_everybody() -> None:
    proposer, follower = chain_of_height(9), chain_of_height(9)
    credits_ = [credit(proposer, height) for height in (2, 3, 8)]
    built = proposer.build(late_credits=credits_, checkpoint=encoded(proposer.checkpoint(2)))
    follower.follow(built, proposer.certificate(built.block_hash))
    payload = decode_payload(decode_block(built.raw_block).raw_payload)
    assert [late.height for late in payload.late_credits] == [2, 3, 8]
    assert payload.checkpoint


@pytest.mark.parametrize(
    ("credits_of", "reason"),
    [
        (lambda chain: [b"\x02"], "late credit encoding: height"),
        (lambda chain: [b""], "late credit encoding: vote_type"),
        (lambda chain: [credit(chain, 9)], "late credit height: expected 2 to 8, found 9"),
        (lambda chain: [credit(chain, 1)], "late credit height: expected 2 to 8, found 1"),
        (lambda chain: [credit(chain, 4), credit(chain, 3)], "late credit height: expected above 4, found 3"),
        (lambda chain: [credit(chain, 4), credit(chain, 4, (2,))], "late credit height: expected above 4, found 4"),
        (lambda chain: [credit(chain, height) for height in range(1, 9)], "late credits: expected at most 7, found 8"),
        (lambda chain: [credit(chain, 4, block_hash=b"\x01" * 32)], "late credit block"),
        (lambda chain: [credit(chain, 4)[:-1] + b"\x00"], "late credit signature"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_proposers_mistake_in_late_credits_is_found_before_it_builds(credits_of: Any, reason: str) -> None:
    chain = chain_of_height(9)
    assert reason in refusal(chain, chain.build_request(late_credits=credits_of(chain)))


def test_a_late_credit_of_another_round_is_valid() -> None:
    """Precommits for the same block in a later round than the one that decided it."""
    chain = chain_of_height(4)
    assert chain.build(late_credits=[credit(chain, 3, (0, 1, 2, 3), round_=2)])


def test_the_seeds_of_the_tests_are_the_registered_keys() -> None:
    chain = chain_of_height(0)
    registered = {member.ml_dsa_key_hash for member in chain.execution.context.voting_set.validators}
    assert registered == {keccak256(ml_dsa.public_key(checkpoint_seed(number))) for number in range(VALIDATORS)}
