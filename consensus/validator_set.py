"""Who votes, with what power, and the hashes that commit to it.

Members stand in ascending order of their voting keys, each key once: signature and power are then read from the
same entry, found by the same key (the CometBFT advisory CSA-2026-001 is what happens otherwise). The aggregate
key is computed outside, where there is a curve, and is part of the hash so that a contract need not add up keys.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise

from consensus.hashing import keccak256, merkle_root
from consensus.params import MAX_TOTAL_POWER, MAX_VALIDATORS
from consensus.wire import DecodeError, WireReader, encode_unsigned, exact_bytes

SET_TAG = b"ALNK:valset/v1\0\0"


class ValidatorSetError(ValueError):
    """Members that cannot form a set."""


@dataclass(frozen=True, slots=True)
class Validator:
    voting_key: bytes
    """48 bytes: compressed BLS12-381 G1 point, its possession proven before it may stand here."""
    ml_dsa_key_hash: bytes
    """keccak256 of the 1,952-byte ML-DSA-65 key that signs checkpoints."""
    power: int
    operator: bytes
    """20 bytes: the account that owns the stake."""

    def __post_init__(self) -> None:
        exact_bytes(self.voting_key, 48, "voting_key")
        exact_bytes(self.ml_dsa_key_hash, 32, "ml_dsa_key_hash")
        exact_bytes(self.operator, 20, "operator")
        if not 1 <= self.power <= MAX_TOTAL_POWER:
            raise ValidatorSetError(f"power: expected 1 to {MAX_TOTAL_POWER}, found {self.power}")


@dataclass(frozen=True, slots=True)
class ValidatorSet:
    """Members in canonical order with what follows from them; raises `ValidatorSetError` for anything else."""

    validators: tuple[Validator, ...]
    aggregate_key: bytes
    """128 bytes: the sum of all voting keys as EIP-2537 encodes a G1 point."""
    total_power: int = field(init=False)
    member_root: bytes = field(init=False)
    hash: bytes = field(init=False)
    """32 bytes; what a header's payload commits to."""
    _index_by_key: dict[bytes, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        count = len(self.validators)
        if not 1 <= count <= MAX_VALIDATORS:
            raise ValidatorSetError(f"expected 1 to {MAX_VALIDATORS} validators, found {count}")
        keys = [validator.voting_key for validator in self.validators]
        if any(left >= right for left, right in pairwise(keys)):
            raise ValidatorSetError("voting keys must ascend, each once")
        exact_bytes(self.aggregate_key, 128, "aggregate_key")
        total_power = sum(validator.power for validator in self.validators)
        if total_power > MAX_TOTAL_POWER:
            raise ValidatorSetError(f"total power: expected at most {MAX_TOTAL_POWER}, found {total_power}")
        root = merkle_root(_member_leaves(self.validators))
        object.__setattr__(self, "total_power", total_power)
        object.__setattr__(self, "member_root", root)
        object.__setattr__(self, "hash", _set_hash(count, total_power, self.aggregate_key, root))
        object.__setattr__(self, "_index_by_key", {key: index for index, key in enumerate(keys)})

    def __len__(self) -> int:
        return len(self.validators)

    def __hash__(self) -> int:
        return int.from_bytes(self.hash[:8], "big")

    def index_of(self, voting_key: bytes) -> int | None:
        """Where the holder of that key stands; None if it does not vote."""
        return self._index_by_key.get(voting_key)

    def has_quorum(self, power: int) -> bool:
        """Strictly more than two thirds of the power."""
        return 3 * power > 2 * self.total_power

    def has_one_correct(self, power: int) -> bool:
        """Strictly more than one third: at least one of these is correct (the paper's f + 1)."""
        return 3 * power > self.total_power


def canonical_order(validators: Iterable[Validator]) -> tuple[Validator, ...]:
    """The order in which a set lists its members."""
    return tuple(sorted(validators, key=lambda validator: validator.voting_key))


def member_leaf(index: int, validator: Validator) -> bytes:
    """112 bytes: index 4, voting key 48, hash of the ML-DSA key 32, power 8, operator 20."""
    return (
        encode_unsigned(index, 4, "index")
        + validator.voting_key
        + validator.ml_dsa_key_hash
        + validator.power.to_bytes(8, "big")
        + validator.operator
    )


def encode_validator_set(validator_set: ValidatorSet) -> bytes:
    """Count 4, aggregate key 128, then each member's leaf without its index (108)."""
    members = b"".join(member_leaf(0, validator)[4:] for validator in validator_set.validators)
    return len(validator_set).to_bytes(4, "big") + validator_set.aggregate_key + members


def decode_validator_set(data: bytes) -> ValidatorSet:
    """The inverse of `encode_validator_set`; `DecodeError` for anything else."""
    reader = WireReader(data)
    count = reader.unsigned(4, "count", maximum=MAX_VALIDATORS)
    aggregate_key = reader.take(128, "aggregate_key")
    try:
        validators = tuple(
            Validator(
                reader.take(48, "voting_key"),
                reader.take(32, "ml_dsa_key_hash"),
                reader.unsigned(8, "power"),
                reader.take(20, "operator"),
            )
            for _ in range(count)
        )
        reader.finish()
        return ValidatorSet(validators, aggregate_key)
    except ValidatorSetError as error:
        raise DecodeError("validator_set", "a canonical set", str(error)) from error


def _member_leaves(validators: tuple[Validator, ...]) -> list[bytes]:
    return [member_leaf(index, validator) for index, validator in enumerate(validators)]


def _set_hash(count: int, total_power: int, aggregate_key: bytes, root: bytes) -> bytes:
    return keccak256(SET_TAG + count.to_bytes(4, "big") + total_power.to_bytes(8, "big") + aggregate_key + root)
