"""Forged headers: their bytes, and each rule that one breaks by its name. Evidence of either form."""

from dataclasses import replace

import pytest

from consensus.certificate import Certificate, bitmap_of
from consensus.evidence import Evidence, EvidenceError, encode_evidence
from consensus.evidence_forms import (
    AnyEvidence,
    decode_any_evidence,
    encode_any_evidence,
    evidence_hash,
    indices_named,
)
from consensus.forged_header import (
    HISTORY_HEIGHTS,
    MAX_HEADER_BYTES,
    ForgedHeader,
    HeaderLink,
    check_history,
    encode_forged_header,
    signers_of_forgery,
    verify_forged_header,
)
from consensus.gossip import EvidenceGossip, decode_gossip, encode_gossip
from consensus.hashing import keccak256
from consensus.messages import VoteType, signing_root
from consensus.validator_set import Validator, ValidatorSet
from consensus.votes import SignedVote
from consensus.wire import DecodeError

GENESIS = b"g" * 32
SET = ValidatorSet(
    tuple(Validator(bytes([index + 1]) * 48, bytes(32), 1, bytes([index]) * 20) for index in range(4)), bytes(128)
)
HEIGHT = 7
HEADER = b"an RLP header"
LINK = HeaderLink(HEIGHT, b"f" * 32, keccak256(HEADER))
CANONICAL = b"c" * 32


def signature_by(keys, message) -> bytes:
    """A toy aggregate that binds exactly these keys and this message."""
    return (keccak256(b"".join(keys) + message) * 3)[:96]


def verify_aggregate(keys, message, signature) -> bool:
    return signature == signature_by(keys, message)


def certificate(*by: int, vote_type=VoteType.PRECOMMIT, height: int = HEIGHT, block_hash=LINK.block_hash):
    unsigned = Certificate(vote_type, height, 0, -1, block_hash, bitmap_of(by, len(SET)), bytes(96))
    keys = [SET.validators[index].voting_key for index in by]
    return replace(unsigned, signature=signature_by(keys, signing_root(unsigned.sign_bytes(GENESIS))))


FORGED = ForgedHeader(HEADER, certificate(1, 3))


def verified(forged: ForgedHeader = FORGED, link: HeaderLink = LINK, canonical: bytes = CANONICAL) -> tuple[int, ...]:
    return verify_forged_header(forged, link, canonical, SET, GENESIS, verify_aggregate)


# --- Rules -------------------------------------------------------------------------------------------------------


def test_it_names_its_signers_whether_a_quorum_or_one() -> None:
    assert verified() == (1, 3)
    assert verified(ForgedHeader(HEADER, certificate(2))) == (2,)
    assert verified(ForgedHeader(HEADER, certificate(0, 1, 2, 3))) == (0, 1, 2, 3)


@pytest.mark.parametrize(
    ("forged", "link", "canonical", "rule"),
    [
        (ForgedHeader(HEADER, certificate(1, vote_type=VoteType.PREVOTE)), LINK, CANONICAL, "vote_type"),
        (ForgedHeader(HEADER, certificate(1, block_hash=b"a" * 32)), LINK, CANONICAL, "block_hash"),
        (FORGED, replace(LINK, number=HEIGHT + 1), CANONICAL, "number"),
        (FORGED, LINK, bytes(32), "history"),
        (FORGED, LINK, LINK.parent_hash, "parent"),
        (ForgedHeader(HEADER, replace(certificate(1), signers=b"\2\0")), LINK, CANONICAL, "bitmap_length"),
        (ForgedHeader(HEADER, replace(certificate(1), signers=b"\0")), LINK, CANONICAL, "signers"),
        (ForgedHeader(HEADER, replace(certificate(1), signers=b"\x12")), LINK, CANONICAL, "signers"),
        (ForgedHeader(HEADER, replace(certificate(1), signers=b"\4")), LINK, CANONICAL, "signature"),
    ],
)
def test_what_breaks_a_rule_names_nobody(forged: ForgedHeader, link: HeaderLink, canonical: bytes, rule: str) -> None:
    with pytest.raises(EvidenceError) as caught:
        verified(forged, link, canonical)
    assert caught.value.rule == rule


def history_rule(forged_height: int, height: int) -> str:
    try:
        check_history(forged_height, height=height)
    except EvidenceError as error:
        return error.rule
    return ""


def test_only_heights_count_whose_rightful_parent_the_state_holds_before_and_after_the_block_has_begun() -> None:
    height = 20_000
    held_before = {(number % HISTORY_HEIGHTS): number for number in range(height - 1)}
    held_after = {(number % HISTORY_HEIGHTS): number for number in range(height)}
    for forged_height in (*range(height - HISTORY_HEIGHTS - 3, height - HISTORY_HEIGHTS + 4), height - 1):
        parent = forged_height - 1
        is_held = all(held[parent % HISTORY_HEIGHTS] == parent for held in (held_before, held_after))
        assert (history_rule(forged_height, height) == "") == is_held, forged_height
    assert history_rule(height, height) == "history"
    assert history_rule(1, 2) == ""
    assert history_rule(0, 2) == "history"


# --- Bytes -------------------------------------------------------------------------------------------------------


def contradiction() -> Evidence:
    vote = SignedVote(VoteType.PRECOMMIT, HEIGHT, 0, b"a" * 32, -1, 2, bytes(96))
    return Evidence(vote, replace(vote, block_hash=b"b" * 32))


@pytest.mark.parametrize(
    ("evidence", "named"),
    [(FORGED, (1, 3)), (contradiction(), (2,)), (ForgedHeader(b"x" * MAX_HEADER_BYTES, certificate(0)), (0,))],
)
def test_evidence_of_either_form_survives_its_encoding(evidence: AnyEvidence, named: tuple[int, ...]) -> None:
    assert decode_any_evidence(encode_any_evidence(evidence)) == evidence
    assert decode_gossip(encode_gossip(EvidenceGossip(evidence))) == EvidenceGossip(evidence)
    assert indices_named(evidence) == named


def test_the_forms_have_different_first_bytes_and_kinds_of_message() -> None:
    assert encode_any_evidence(contradiction())[0] == 1
    assert encode_any_evidence(FORGED)[0] == 2
    assert encode_gossip(EvidenceGossip(contradiction()))[0] == 9
    assert encode_gossip(EvidenceGossip(FORGED))[0] == 10
    assert evidence_hash(contradiction()) == keccak256(encode_evidence(contradiction()))
    assert evidence_hash(FORGED) == keccak256(encode_forged_header(FORGED))


@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: b"",
        lambda raw: raw[:1],
        lambda raw: raw[:-1],
        lambda raw: raw + b"\0",
        lambda raw: b"\0" + raw[1:],
        lambda raw: b"\1" + raw[1:],
        lambda raw: b"\3" + raw[1:],
        lambda raw: raw[:1] + bytes(2) + raw[3 + len(HEADER) :],
        lambda raw: raw[:1] + b"\xff\xff" + raw[3:],
        lambda raw: raw[: 3 + len(HEADER)] + b"\xff\xff" + raw[5 + len(HEADER) :],
    ],
)
def test_other_bytes_are_refused(damage) -> None:
    with pytest.raises(DecodeError):
        decode_any_evidence(damage(encode_any_evidence(FORGED)))


@pytest.mark.parametrize("length", [0, MAX_HEADER_BYTES + 1])
def test_a_header_without_bytes_or_longer_than_a_light_client_reads_is_none(length: int) -> None:
    with pytest.raises(ValueError, match="header: expected 1 to 2048 bytes"):
        encode_forged_header(ForgedHeader(bytes(length), FORGED.certificate))
    body = encode_any_evidence(FORGED)[3 + len(HEADER) :]
    with pytest.raises(DecodeError):
        decode_any_evidence(b"\2" + length.to_bytes(2, "big") + bytes(length) + body)


def test_signers_are_read_from_the_bitmap() -> None:
    assert signers_of_forgery(FORGED) == (1, 3)
