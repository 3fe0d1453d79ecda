"""Deterministic validators, genesis files and certificates for tests that drive a real execution facade."""

from collections.abc import Mapping, Sequence

from astralink_node.crypto import bls, ml_dsa
from astralink_node.types import Address
from consensus.certificate import Certificate, bitmap_of, encode_certificate
from consensus.messages import VoteType, reveal_sign_bytes, signing_root, vote_sign_bytes
from consensus.validator_set import ValidatorSet
from genesis.presets import DEVNET_ACCOUNTS, DEVNET_BALANCE_WEI, DEVNET_CHAIN_ID, new_genesis
from genesis.schema import STAKE_UNIT_WEI, GenesisAccount, GenesisValidator

GENESIS_TIMESTAMP = 1_700_000_000
BLOCK_INTERVAL_MS = 1_000


def voting_secret(number: int) -> bls.SecretKey:
    return bls.SecretKey(bytes([number + 1]) * 32)


def genesis_validator(number: int, stake_bwt: int = 32) -> GenesisValidator:
    secret = voting_secret(number)
    return GenesisValidator(
        operator=Address(bytes([0xA0 + number]) * 20),
        voting_key=bls.public_key(secret),
        proof_of_possession=bls.prove_possession(secret),
        checkpoint_key=ml_dsa.public_key(ml_dsa.Seed(bytes([number + 1]) * 32)),
        stake_wei=stake_bwt * STAKE_UNIT_WEI,
    )


def genesis_text(
    validator_count: int = 1,
    *,
    chain_id: int = DEVNET_CHAIN_ID,
    extra_alloc: Mapping[Address, GenesisAccount] | None = None,
    epoch_length: int = 100,
    timestamp: int = GENESIS_TIMESTAMP,
    max_gas_target: int = 15_000_000,
) -> bytes:
    """A devnet-like genesis: the ten developers' accounts funded, `validator_count` equal validators."""
    alloc = {account.address: GenesisAccount(DEVNET_BALANCE_WEI, 0, b"", ()) for account in DEVNET_ACCOUNTS}
    return new_genesis(
        chain_id=chain_id,
        network_name="test",
        timestamp=timestamp,
        seed=bytes(32),
        validators=[genesis_validator(number) for number in range(validator_count)],
        alloc={**alloc, **(extra_alloc or {})},
        block_interval_ms=BLOCK_INTERVAL_MS,
        epoch_length=epoch_length,
        max_gas_target=max_gas_target,
    ).encode()


def secrets_of(validator_set: ValidatorSet, validator_count: int) -> list[bls.SecretKey]:
    """The voting secrets in the order of the set."""
    by_key = {bls.public_key(voting_secret(number)): voting_secret(number) for number in range(validator_count)}
    return [by_key[member.voting_key] for member in validator_set.validators]


def reveal(secret: bls.SecretKey, genesis_hash: bytes, height: int) -> bytes:
    return bls.sign(secret, signing_root(reveal_sign_bytes(genesis_hash, height)))


def commit_certificate(
    secrets: Sequence[bls.SecretKey],
    genesis_hash: bytes,
    height: int,
    block_hash: bytes,
    *,
    round_: int = 0,
    signers: Sequence[int] | None = None,
) -> bytes:
    """The encoded certificate of the precommits of `signers` (indices into `secrets`; all if not given)."""
    indices = range(len(secrets)) if signers is None else signers
    message = signing_root(vote_sign_bytes(genesis_hash, height, round_, VoteType.PRECOMMIT, block_hash, -1))
    signature = bls.aggregate([bls.sign(secrets[index], message) for index in indices])
    return encode_certificate(
        Certificate(VoteType.PRECOMMIT, height, round_, -1, block_hash, bitmap_of(indices, len(secrets)), signature)
    )
