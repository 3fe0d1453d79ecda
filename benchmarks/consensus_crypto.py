"""What a height's signatures cost at 100 validators: processor time of a certificate, and of admitting its votes.

Voting keys are decoded before the clock starts, as in a node that has seen the set before; every run has another
block hash, so that nothing else is remembered. `bench_consensus` prints the figures beside their limits.
"""

from __future__ import annotations

import time
from dataclasses import replace
from statistics import median

from astralink_node.crypto import bls
from consensus.admission import admit_votes
from consensus.certificate import Certificate, bitmap_of, verify_certificate
from consensus.hashing import keccak256
from consensus.messages import NO_ROUND, VoteType, signing_root
from consensus.validator_set import Validator, ValidatorSet, canonical_order
from consensus.votes import SignedVote

VALIDATORS = 100
_CERTIFICATE_RUNS = 50
_ADMISSION_RUNS = 5
_GENESIS_HASH = keccak256(b"consensus benchmark")


def bench_certificate() -> float:
    """Milliseconds of processor time to verify one commit certificate that all have signed; the median of 50."""
    validator_set, secrets = _validators()
    times = []
    for certificate in _certificates(validator_set, secrets, _CERTIFICATE_RUNS):
        started = time.process_time_ns()
        verify_certificate(certificate, validator_set, _GENESIS_HASH, bls.fast_aggregate_verify)
        times.append(time.process_time_ns() - started)
    return median(times) / 1e6


def bench_vote_admission() -> float:
    """Milliseconds of processor time to admit a height's 100 prevotes and 100 precommits; the median of 5.

    They come as two batches, one for each step, as they do in a round; one batch of all costs a little less.
    """
    validator_set, secrets = _validators()
    times = []
    for height in range(1, _ADMISSION_RUNS + 1):
        batches = [_votes(secrets, vote_type, height) for vote_type in VoteType]
        started = time.process_time_ns()
        admissions = [admit_votes(votes, validator_set, _GENESIS_HASH, bls.batch_verify) for votes in batches]
        times.append(time.process_time_ns() - started)
        if any(admission.refused for admission in admissions):
            raise RuntimeError(f"valid votes of height {height} were refused")
    return median(times) / 1e6


def _validators() -> tuple[ValidatorSet, list[bls.SecretKey]]:
    """100 equal members, their keys decoded, and their secrets in the set's order."""
    secrets = [bls.SecretKey(b"\0" + keccak256(b"benchmark %d" % number)[1:]) for number in range(VALIDATORS)]
    by_key = {bls.public_key(secret): secret for secret in secrets}
    members = canonical_order(Validator(key, bytes(32), 10, bytes(20)) for key in by_key)
    aggregate_key = bls.aggregate_public_keys_eip2537([member.voting_key for member in members])
    return ValidatorSet(members, aggregate_key), [by_key[member.voting_key] for member in members]


def _votes(secrets: list[bls.SecretKey], vote_type: VoteType, height: int) -> list[SignedVote]:
    block_hash = keccak256(b"block %d" % height)
    unsigned = SignedVote(vote_type, height, 0, block_hash, NO_ROUND, 0, bytes(96))
    root = signing_root(unsigned.sign_bytes(_GENESIS_HASH))
    return [
        replace(unsigned, validator_index=index, signature=bls.sign(secret, root))
        for index, secret in enumerate(secrets)
    ]


def _certificates(validator_set: ValidatorSet, secrets: list[bls.SecretKey], count: int) -> list[Certificate]:
    """Of heights 1 to `count`, signed by all: the sum of the signatures is one by the sum of the secrets."""
    total = sum(int.from_bytes(secret.reveal(), "big") for secret in secrets) % bls.CURVE_ORDER
    all_secrets = bls.SecretKey(total.to_bytes(32, "big"))
    bitmap = bitmap_of(range(len(validator_set)), len(validator_set))
    certificates = []
    for height in range(1, count + 1):
        block_hash = keccak256(b"block %d" % height)
        unsigned = Certificate(VoteType.PRECOMMIT, height, 0, NO_ROUND, block_hash, bitmap, bytes(96))
        signature = bls.sign(all_secrets, signing_root(unsigned.sign_bytes(_GENESIS_HASH)))
        certificates.append(replace(unsigned, signature=signature))
    return certificates
