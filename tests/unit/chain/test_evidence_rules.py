"""Evidence in a block against the chain's state: what makes a block invalid, and what a proposer leaves out."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache

import pytest

from astralink_node.chain.ledger import Ledger
from astralink_node.chain.messages import Build, CannotBuild, Invalid, Valid, Validate
from astralink_node.evm.blocks import Block, Header, SealedBlock, decode_block, encode_block, encode_header
from astralink_node.types import Hash32
from consensus.block_evidence import MAX_ITEMS, CarriedEvidence, decode_carried, encode_carried
from consensus.evidence import Evidence
from consensus.evidence_forms import AnyEvidence, decode_any_evidence, encode_any_evidence
from consensus.messages import VoteType
from consensus.payload import decode_payload, encode_payload, payload_root
from tests.support.chains import LocalChain
from tests.support.staking_chains import StakingChain, operator_of, staking_genesis

GENESIS = staking_genesis(epoch_length=10)


def chain_of_height(height: int, genesis: bytes = GENESIS) -> StakingChain:
    chain = StakingChain(genesis=genesis)
    chain.advance_to(height)
    return chain


@cache
def three_blocks() -> StakingChain:
    """Shared by tests that build and validate, and commit nothing."""
    return chain_of_height(3)


def item(chain: StakingChain, evidence: AnyEvidence) -> bytes:
    return encode_carried(CarriedEvidence(evidence, chain.execution.context.voting_set_at(evidence.height)))


def rule_of(chain: LocalChain, items: Sequence[bytes]) -> str:
    """Which rule of evidence a block with those items breaks, if it breaks one; its roots are those of the block
    without them."""
    sealed = decode_block(chain.build().raw_block)
    payload = replace(decode_payload(sealed.raw_payload), evidence=tuple(items))
    header = replace(sealed.block.header, parent_beacon_block_root=payload_root(payload))  # type: ignore[arg-type]
    raw_block = encode_block(SealedBlock(Block(header, ()), encode_payload(payload)))
    answer = chain.execution.validate(Validate(raw_block))
    assert isinstance(answer, Valid | Invalid)
    return answer.rule if isinstance(answer, Invalid) and answer.rule.startswith("evidence") else ""


def test_evidence_that_holds_passes() -> None:
    chain = three_blocks()
    assert rule_of(chain, [item(chain, chain.double_precommit(1, 2))]) == ""


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (lambda chain, good: [b"\0"], "evidence encoding: form"),
        (lambda chain, good: [good, good], "evidence"),
        (lambda chain, good: [item(chain, chain.double_precommit(1, 4))], "evidence height"),
        (lambda chain, good: [encode_carried(with_forgery(decode_carried(good)))], "evidence signature"),
        (lambda chain, good: [encode_carried(with_other_set(decode_carried(good)))], "evidence set"),
        (
            lambda chain, good: (
                [item(chain, chain.double_precommit(number, 2)) for number in range(4)]
                + [item(chain, chain.double_precommit(0, 1))]
            ),
            "evidence",
        ),
    ],
)
def test_what_does_not_hold_makes_the_block_invalid(
    change: Callable[[StakingChain, bytes], list[bytes]], rule: str
) -> None:
    chain = three_blocks()
    good = item(chain, chain.double_precommit(1, 2))
    assert rule_of(chain, change(chain, good)) == rule


def with_forgery(carried: CarriedEvidence) -> CarriedEvidence:
    evidence = carried.evidence
    forged = replace(evidence.first, signature=evidence.second.signature)
    return CarriedEvidence(Evidence(forged, evidence.second), carried.validator_set)


def with_other_set(carried: CarriedEvidence) -> CarriedEvidence:
    first, *rest = carried.validator_set.validators
    stronger = (replace(first, power=first.power + 1), *rest)
    return CarriedEvidence(carried.evidence, replace(carried.validator_set, validators=stronger))


def test_whoever_is_tombstoned_is_not_convicted_again() -> None:
    chain = chain_of_height(3)
    chain.step(evidence=[chain.raw_double_precommit(1, 2)])
    assert rule_of(chain, [item(chain, chain.double_precommit(1, 3))]) == "evidence tombstoned"
    assert chain.build(evidence=[chain.raw_double_precommit(1, 3)]).useless_evidence != ()


def test_two_items_against_one_validator_slash_it_once() -> None:
    chain = chain_of_height(3)
    items = [item(chain, chain.double_precommit(1, height)) for height in (1, 2)]
    assert rule_of(chain, items) == ""
    # A proposer does not spend room on it.
    built = chain.build(evidence=[chain.raw_double_precommit(1, height) for height in (1, 2)])
    chain.commit(built.block_hash)
    assert chain.view("validator", operator_of(1))["slash_count"] == 1


def test_a_chain_without_staking_carries_none() -> None:
    chain, with_staking = LocalChain(validators=4), three_blocks()
    for _ in range(3):
        chain.produce()
    assert rule_of(chain, [item(with_staking, with_staking.double_precommit(1, 2))]) == "evidence"
    raw = with_staking.raw_double_precommit(1, 2)
    assert decode_payload(decode_block(chain.build(evidence=[raw]).raw_block).raw_payload).evidence == ()


def test_evidence_expires() -> None:
    document = json.loads(GENESIS)
    document["astralink"]["consensus"]["evidenceMaxAgeBlocks"] = 5
    document["astralink"]["consensus"]["evidenceMaxAgeMs"] = 1_000
    genesis = json.dumps(document).encode()
    chain = chain_of_height(7, genesis)
    crime = chain.double_precommit(1, 2)
    assert rule_of(chain, [item(chain, crime)]) == ""
    chain.step()
    assert rule_of(chain, [item(chain, crime)]) == "evidence age"
    raw = chain.raw_double_precommit(1, 2)
    assert chain.build(evidence=[raw]).useless_evidence == (raw,)


# --- The proposer ------------------------------------------------------------------------------------------------


def test_a_proposer_takes_four_and_keeps_the_rest_for_later() -> None:
    chain = StakingChain(genesis=staking_genesis(6))
    chain.advance_to(3)
    crimes = [chain.raw_double_precommit(number, 2) for number in range(6)]
    built = chain.build(evidence=crimes)
    payload = decode_payload(decode_block(built.raw_block).raw_payload)
    assert len(payload.evidence) == MAX_ITEMS
    assert [decode_carried(one).evidence for one in payload.evidence] == [
        decode_any_evidence(raw) for raw in crimes[:MAX_ITEMS]
    ]
    assert built.useless_evidence == ()


def test_what_no_block_can_carry_is_left_out_and_named() -> None:
    chain = three_blocks()
    good = chain.raw_double_precommit(1, 2)
    early = chain.raw_double_precommit(2, 4)
    forged = encode_evidence_of(with_forgery(decode_carried(item(chain, chain.double_precommit(0, 2)))))
    built = chain.build(evidence=[forged, b"rubbish", early, good, good])
    payload = decode_payload(decode_block(built.raw_block).raw_payload)
    assert [decode_carried(one).evidence for one in payload.evidence] == [decode_any_evidence(good)]
    # The block's own height is no past yet: that one waits.
    assert built.useless_evidence == (forged, b"rubbish")


def encode_evidence_of(carried: CarriedEvidence) -> bytes:
    encoded = encode_carried(carried)
    return encoded[: 3 + int.from_bytes(encoded[1:3], "big")]


def test_a_build_never_fails_for_its_evidence() -> None:
    chain = three_blocks()
    request = chain.build_request(evidence=[bytes([number]) * 50 for number in range(100)])
    assert isinstance(request, Build)
    assert not isinstance(chain.execution.build(request), CannotBuild)


# --- Forged headers ----------------------------------------------------------------------------------------------


def test_a_forged_header_passes_whether_a_quorum_signed_it_or_one() -> None:
    chain = three_blocks()
    for signers in ([1], [0, 1, 2], [0, 1, 2, 3]):
        assert rule_of(chain, [item(chain, chain.forged_header(signers, 2))]) == ""
    assert rule_of(chain, [item(chain, chain.forged_header([1], 1))]) == "", "genesis has a hash, too"


def header_of(chain: StakingChain, height: int) -> Header:
    return Ledger(chain.store).header(height)


def broken(chain: StakingChain, name: str) -> AnyEvidence:
    forged = chain.forged_header([1, 2], 2)
    certificate, header = forged.certificate, header_of(chain, 2)
    match name:
        case "the chain's own block":
            return chain.signed_header(header, [0, 1, 2, 3])
        case "a sibling":
            return chain.signed_header(replace(header, gas_used=7), [0, 1, 2, 3])
        case "another header":
            return replace(forged, raw_header=encode_header(replace(header, gas_used=7)))
        case "no header":
            return replace(forged, raw_header=b"\xc0")
        case "another height":
            higher = replace(header, number=3, parent_hash=Hash32(b"f" * 32))
            return replace(chain.signed_header(higher, [1]), certificate=replace(certificate, block_hash=higher.hash))
        case "the block's own height":
            return chain.signed_header(replace(header, number=4, parent_hash=Hash32(b"f" * 32)), [1])
        case "prevotes":
            return replace(forged, certificate=replace(certificate, vote_type=VoteType.PREVOTE))
        case "signers who did not":
            return replace(forged, certificate=replace(certificate, signers=b"\x0f"))
    raise AssertionError(name)


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("the chain's own block", "evidence parent"),
        ("a sibling", "evidence parent"),
        ("another header", "evidence block_hash"),
        ("no header", "evidence header"),
        ("another height", "evidence number"),
        ("the block's own height", "evidence height"),
        ("prevotes", "evidence vote_type"),
        ("signers who did not", "evidence signature"),
    ],
)
def test_a_header_that_forges_nothing_makes_the_block_invalid_and_no_proposer_carries_it(name: str, rule: str) -> None:
    chain = three_blocks()
    evidence = broken(chain, name)
    assert rule_of(chain, [item(chain, evidence)]) == rule
    raw = encode_any_evidence(evidence)
    built = chain.build(evidence=[raw])
    assert decode_payload(decode_block(built.raw_block).raw_payload).evidence == ()
    assert built.useless_evidence == (() if evidence.height == 4 else (raw,))


def test_forged_headers_with_another_set_or_twice_are_refused() -> None:
    chain = three_blocks()
    good = item(chain, chain.forged_header([1], 2))
    assert rule_of(chain, [good, good]) == "evidence"
    assert rule_of(chain, [encode_carried(with_other_set(decode_carried(good)))]) == "evidence set"


def test_a_header_of_which_the_state_has_forgotten_the_rightful_parent_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chain = chain_of_height(7)
    forged = item(chain, chain.forged_header([1], 2))
    assert rule_of(chain, [forged]) == ""
    monkeypatch.setattr("consensus.forged_header.HISTORY_HEIGHTS", 6)
    assert rule_of(chain, [item(chain, chain.forged_header([1], 3))]) == ""
    assert rule_of(chain, [forged]) == "evidence history"


def test_whoever_is_frozen_tombstoned_or_acquitted_is_not_frozen_by_it() -> None:
    chain = chain_of_height(3)
    chain.step(evidence=[encode_any_evidence(chain.forged_header([1], 2)), chain.raw_double_precommit(2, 2)])
    assert chain.view("is_frozen", operator_of(1)) is True
    assert chain.view("is_frozen", operator_of(2)) is False
    again = chain.forged_header([1, 2], 3)
    assert rule_of(chain, [item(chain, again)]) == "evidence frozen"
    assert chain.build(evidence=[encode_any_evidence(again)]).useless_evidence == (encode_any_evidence(again),)
    # With one more who is neither, it holds, and touches nobody else.
    chain.step(evidence=[encode_any_evidence(chain.forged_header([1, 2, 3], 3))])
    frozen = [call for call in chain.protocol_log() if call.name == "freeze"]
    assert len(frozen) == 1
    assert chain.view("is_frozen", operator_of(3)) is True


def test_a_forger_who_contradicts_itself_as_well_is_slashed_as_well() -> None:
    chain = chain_of_height(3)
    forged, crime = encode_any_evidence(chain.forged_header([1], 2)), chain.raw_double_precommit(1, 2)
    # In this order both are worth their room; in the other the second would do nothing.
    built = chain.build(evidence=[forged, crime])
    assert len(decode_payload(decode_block(built.raw_block).raw_payload).evidence) == 2
    built = chain.build(evidence=[crime, forged])
    assert len(decode_payload(decode_block(built.raw_block).raw_payload).evidence) == 1
    chain.step(evidence=[forged, crime])
    assert chain.view("is_frozen", operator_of(1)) is True
    assert chain.view("validator", operator_of(1))["tombstoned"] is True
