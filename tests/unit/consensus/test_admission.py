"""Admission with the real curve: bad votes are singled out, errors that cancel included, and nobody else pays."""

from dataclasses import replace

import pytest
from py_arkworks_bls12381 import G2Point

from astralink_node.crypto import bls
from consensus.admission import admit_proposal, admit_votes
from consensus.hashing import keccak256
from consensus.messages import NIL, VoteType, signing_root
from consensus.validator_set import Validator, ValidatorSet, canonical_order
from consensus.votes import SignedProposal, SignedVote

GENESIS, BLOCK = keccak256(b"genesis"), keccak256(b"block")
POWERS = [5, 1, 1, 1, 1, 1, 1, 1]

_SECRETS = [bls.SecretKey(bytes(28) + (index + 1).to_bytes(4, "big")) for index in range(len(POWERS))]
_BY_KEY = {bls.public_key(secret): secret for secret in _SECRETS}
_MEMBERS = canonical_order(
    Validator(key, bytes(32), power, bytes(20)) for key, power in zip(_BY_KEY, POWERS, strict=True)
)
SET = ValidatorSet(_MEMBERS, bls.aggregate_public_keys_eip2537([member.voting_key for member in _MEMBERS]))
SECRETS = [_BY_KEY[member.voting_key] for member in SET.validators]


def vote(index: int, block_hash: bytes = BLOCK, vote_type: VoteType = VoteType.PREVOTE, round_: int = 0) -> SignedVote:
    unsigned = SignedVote(vote_type, 9, round_, block_hash, -1, index, b"")
    return replace(unsigned, signature=bls.sign(SECRETS[index], signing_root(unsigned.sign_bytes(GENESIS))))


def shifted(signed: SignedVote, difference: G2Point) -> SignedVote:
    point = G2Point.from_compressed_bytes(signed.signature) + difference
    return replace(signed, signature=bytes(point.to_compressed_bytes()))


class CountingCheck:
    """bls.batch_verify that remembers the sizes of what it was asked."""

    def __init__(self) -> None:
        self.sizes = []

    def __call__(self, keys, messages, signatures) -> bool:
        self.sizes.append(len(keys))
        return bls.batch_verify(keys, messages, signatures)


def admit(votes, check=bls.batch_verify):
    return admit_votes(votes, SET, GENESIS, check)


def test_good_votes_of_different_words_are_admitted_by_one_check():
    votes = [vote(index) for index in range(4)] + [vote(index, NIL) for index in range(4, 8)]
    votes += [vote(index, vote_type=VoteType.PRECOMMIT, round_=1) for index in range(8)]
    check = CountingCheck()
    admission = admit(votes, check)
    assert admission.admitted == tuple(votes)
    assert admission.refused == ()
    assert check.sizes == [16]


def test_no_votes_need_no_check():
    check = CountingCheck()
    assert admit([], check).admitted == admit([], check).refused == ()
    assert check.sizes == []


def test_two_votes_whose_errors_cancel_in_a_sum_are_both_refused_and_only_they():
    votes = [vote(index) for index in range(8)]
    error = G2Point() + G2Point()
    votes[2], votes[5] = shifted(votes[2], error), shifted(votes[5], -error)
    # The plain sum does not see it: this is why votes are not admitted that way.
    message = signing_root(votes[0].sign_bytes(GENESIS))
    keys = [SET.validators[each.validator_index].voting_key for each in votes]
    assert bls.fast_aggregate_verify(keys, message, bls.aggregate([each.signature for each in votes]))
    assert not bls.verify(keys[2], message, votes[2].signature)
    assert not bls.verify(keys[5], message, votes[5].signature)

    admission = admit(votes)
    assert [each.validator_index for each in admission.refused] == [2, 5]
    assert [each.validator_index for each in admission.admitted] == [0, 1, 3, 4, 6, 7]


def test_two_exchanged_signatures_are_refused():
    votes = [vote(index) for index in range(4)]
    votes[0], votes[1] = (
        replace(votes[0], signature=votes[1].signature),
        replace(votes[1], signature=votes[0].signature),
    )
    assert [each.validator_index for each in admit(votes).refused] == [0, 1]


@pytest.mark.parametrize("bad", [[0], [7], [3, 4], [0, 2, 4, 6], list(range(8))])
def test_bad_votes_are_singled_out_wherever_they_stand(bad):
    votes = [replace(vote(index), round_=1) if index in bad else vote(index) for index in range(8)]
    check = CountingCheck()
    admission = admit(votes, check)
    assert [each.validator_index for each in admission.refused] == bad
    assert [each.validator_index for each in admission.admitted] == [index for index in range(8) if index not in bad]
    assert len(check.sizes) <= 2 * len(votes) - 1
    if len(bad) == 1:
        assert check.sizes.count(8) == 1
        assert len(check.sizes) == 1 + 2 * 3


@pytest.mark.parametrize(
    "signature",
    [b"", bytes(96), b"\xc0" + bytes(95), b"\xff" * 96, bytes(95)],
    ids=["empty", "zeros", "identity", "ones", "short"],
)
def test_a_signature_that_is_no_point_or_the_identity_is_refused(signature):
    votes = [vote(0), replace(vote(1), signature=signature), vote(2)]
    assert [each.validator_index for each in admit(votes).refused] == [1]


def test_who_stands_outside_of_the_set_is_refused_without_touching_the_curve():
    check = CountingCheck()
    outside = [replace(vote(0), validator_index=index) for index in (8, 511, -1)]
    assert admit(outside, check).refused == tuple(outside)
    assert check.sizes == []
    assert admit([vote(0), *outside], check).admitted == (vote(0),)
    assert check.sizes == [1]


def test_values_that_nobody_may_sign_are_refused_without_touching_the_curve():
    check = CountingCheck()
    wrong = [replace(vote(0), height=0), replace(vote(0), valid_round=0), replace(vote(0), block_hash=b"short")]
    assert admit(wrong, check).refused == tuple(wrong)
    assert check.sizes == []


def test_signature_and_power_belong_to_the_same_member():
    """CSA-2026-001: a weak member's signature under the strong one's index counts for neither."""
    strong = max(range(8), key=lambda index: SET.validators[index].power)
    weak = (strong + 1) % 8
    borrowed = replace(vote(weak), validator_index=strong)
    assert admit([borrowed]).refused == (borrowed,)
    admitted = admit([vote(strong), vote(weak)]).admitted
    assert sum(SET.validators[each.validator_index].power for each in admitted) == 6


def test_a_vote_for_another_chain_is_refused():
    assert admit_votes([vote(0)], SET, keccak256(b"another genesis"), bls.batch_verify).admitted == ()


def test_the_same_vote_twice_is_admitted_twice():
    assert admit([vote(0), vote(0)]).admitted == (vote(0), vote(0))


def test_a_proposal_is_admitted_from_its_proposer_only():
    unsigned = SignedProposal(9, 2, BLOCK, 1, b"")
    root = signing_root(unsigned.sign_bytes(GENESIS))
    proposal = replace(unsigned, signature=bls.sign(SECRETS[3], root))

    def admitted(each, proposer_index=3, genesis_hash=GENESIS):
        return admit_proposal(each, proposer_index, SET, genesis_hash, bls.verify)

    assert admitted(proposal)
    assert not admitted(proposal, proposer_index=4)
    assert not admitted(proposal, genesis_hash=keccak256(b"another genesis"))
    for changed in (
        replace(proposal, height=10),
        replace(proposal, round_=3),
        replace(proposal, valid_round=-1),
        replace(proposal, block_hash=keccak256(b"another")),
        replace(proposal, valid_round=2),
        replace(proposal, block_hash=NIL),
        replace(proposal, signature=bytes(96)),
    ):
        assert not admitted(changed)
