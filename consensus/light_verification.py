"""What a light client checks to believe a header without executing its block. No curve, no bytes, no clock.

From a trusted header to the next one (`verify_adjacent`), or over many heights at once (`verify_skipping`, trust
level 1/3), within the trusting period: half of unbonding, while whoever signs for a fork can still be punished.
After CometBFT's light client, with two differences that aggregates demand or allow: a member that the trusted set
does not know must prove possession of its key, and an adjacent header must name the trusted one as its parent.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from consensus.certificate import Certificate, CertificateError, VerifyAggregate, signer_indices, verify_commit
from consensus.params import ConsensusParams
from consensus.validator_set import ValidatorSet

VerifyPossession = Callable[[bytes, bytes], bool]
"""(voting key, proof) -> whether its holder knows the secret; astralink_node.crypto.bls.verify_possession."""


class LightVerificationError(ValueError):
    """A header that is not to be believed (yet). `rule` is a stable short name, the rest are facts.

    Rules of the certificate begin with `commit_`. `trust_level` alone may be cured by trying a height in between.
    """

    def __init__(self, rule: str, expected: str, found: str) -> None:
        super().__init__(f"{rule}: expected {expected}, found {found}")
        self.rule = rule
        self.expected = expected
        self.found = found


@dataclass(frozen=True, slots=True)
class SignedHeader:
    """What a light client needs of a header and its payload, and the certificate for it."""

    height: int
    time_ms: int
    block_hash: bytes
    parent_hash: bytes
    voting_set_hash: bytes
    """The set whose certificate this is."""
    next_set_hash: bytes
    """The set that votes on the next height."""
    certificate: Certificate | None
    """None only in a header that is trusted by its hash, such as that of genesis."""


@dataclass(frozen=True, slots=True)
class LightRules:
    """What holds for every check of one chain by one light client."""

    genesis_hash: bytes
    params: ConsensusParams
    verify_aggregate: VerifyAggregate
    verify_possession: VerifyPossession


def trusting_period_ms(params: ConsensusParams) -> int:
    """How long a header may be built upon: half of unbonding, rounded down."""
    return params.unbonding_ms // 2


def verify_adjacent(
    rules: LightRules, trusted: SignedHeader, new: SignedHeader, new_set: ValidatorSet, now_ms: int
) -> None:
    """Raises `LightVerificationError` unless `new` is the final block right after `trusted`.

    `new_set` votes on it. The rule `parent` is checked last: what breaks it alone is a certified fork.
    """
    if new.height != trusted.height + 1:
        raise LightVerificationError("height", f"{trusted.height + 1}", f"{new.height}")
    _check_times(rules, trusted, new, now_ms)
    if new.voting_set_hash != trusted.next_set_hash:
        raise LightVerificationError("announced_set", trusted.next_set_hash.hex(), new.voting_set_hash.hex())
    check_certified(rules, new, new_set)
    if new.parent_hash != trusted.block_hash:
        raise LightVerificationError("parent", trusted.block_hash.hex(), new.parent_hash.hex())


def verify_skipping(
    rules: LightRules,
    trusted: SignedHeader,
    trusted_next_set: ValidatorSet,
    new: SignedHeader,
    new_set: ValidatorSet,
    possessions: Mapping[bytes, bytes],
    now_ms: int,
) -> None:
    """Raises `LightVerificationError` unless `new`, two or more heights above, may be believed.

    Signers must hold strictly more than 1/3 of the power of the set after `trusted` (one of them is correct then)
    and strictly more than 2/3 of `new_set`, which the new header commits to. Members are matched by key, never by
    index. `possessions` holds the proofs of signers whom the trusted set does not know, by voting key. Without
    them an inventor of sets could choose a key that cancels the correct members' keys, and sign for all alone.
    """
    if new.height < trusted.height + 2:
        raise LightVerificationError("height", f"at least {trusted.height + 2}", f"{new.height}")
    _check_times(rules, trusted, new, now_ms)
    if trusted_next_set.hash != trusted.next_set_hash:
        raise LightVerificationError("trusted_set", trusted.next_set_hash.hex(), trusted_next_set.hash.hex())
    _check_voting_set(new, new_set)
    power, joiners = _known_and_unknown(trusted_next_set, new, new_set)
    if not trusted_next_set.has_one_correct(power):
        raise LightVerificationError("trust_level", f"more than 1/3 of {trusted_next_set.total_power}", f"{power}")
    for key in joiners:
        proof = possessions.get(key)
        if proof is None or not rules.verify_possession(key, proof):
            found = "none" if proof is None else "another"
            raise LightVerificationError("possession", f"a proof for {key.hex()}", found)
    check_certified(rules, new, new_set)


def check_certified(rules: LightRules, header: SignedHeader, voting_set: ValidatorSet) -> None:
    """Raises `LightVerificationError` unless `voting_set`, which the header names, made it final.

    By itself this says nothing of whether that set deserves trust.
    """
    _check_voting_set(header, voting_set)
    certificate = _certificate_of(header)
    try:
        verify_commit(
            certificate, header.height, header.block_hash, voting_set, rules.genesis_hash, rules.verify_aggregate
        )
    except CertificateError as error:
        raise LightVerificationError(f"commit_{error.rule}", error.expected, error.found) from error


def next_height_to_try(trusted_height: int, refused_height: int) -> int:
    """Where to go first when `refused_height` lacked the trust level: halfway, rounded down.

    The adjacent height is always believable, so bisection ends: each refusal halves what is left.
    """
    if refused_height < trusted_height + 2:
        raise ValueError(f"refused_height: nothing lies between {trusted_height} and {refused_height}")
    return trusted_height + (refused_height - trusted_height) // 2


def _check_times(rules: LightRules, trusted: SignedHeader, new: SignedHeader, now_ms: int) -> None:
    period = trusting_period_ms(rules.params)
    if now_ms - trusted.time_ms >= period:
        raise LightVerificationError(
            "trusting_period", f"a trusted header younger than {period} ms", f"{now_ms - trusted.time_ms} ms"
        )
    earliest = trusted.time_ms + (new.height - trusted.height) * rules.params.min_block_interval_ms
    if new.time_ms < earliest:
        raise LightVerificationError("time", f"at least {earliest} ms", f"{new.time_ms} ms")
    latest = now_ms + rules.params.precision_ms
    if new.time_ms > latest:
        raise LightVerificationError("clock", f"at most {latest} ms", f"{new.time_ms} ms")


def _check_voting_set(header: SignedHeader, voting_set: ValidatorSet) -> None:
    if voting_set.hash != header.voting_set_hash:
        raise LightVerificationError("voting_set", header.voting_set_hash.hex(), voting_set.hash.hex())


def _known_and_unknown(
    trusted_set: ValidatorSet, new: SignedHeader, new_set: ValidatorSet
) -> tuple[int, tuple[bytes, ...]]:
    """Power in the trusted set of whoever claims to have signed, and the keys of signers outside of it.

    A bit beyond the members counts for nobody here and breaks a rule of the certificate later.
    """
    power = 0
    unknown = []
    for index in signer_indices(_certificate_of(new).signers):
        if index < len(new_set):
            key = new_set.validators[index].voting_key
            at = trusted_set.index_of(key)
            if at is None:
                unknown.append(key)
            else:
                power += trusted_set.validators[at].power
    return power, tuple(unknown)


def _certificate_of(header: SignedHeader) -> Certificate:
    if header.certificate is None:
        raise LightVerificationError("certificate", f"a commit of height {header.height}", "none")
    return header.certificate
