"""Deterministic validators, genesis files and certificates for tests that drive a real execution facade."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from astralink_node.chain.execution import Execution, ExecutionConfig
from astralink_node.chain.initialise import initialise
from astralink_node.chain.messages import (
    Build,
    BuildAttributes,
    Built,
    Candidate,
    Commit,
    Committed,
    FeePreference,
    Valid,
    Validate,
)
from astralink_node.crypto import bls, ml_dsa
from astralink_node.evm.transaction_encoding import new_transaction, sign_transaction
from astralink_node.evm.transactions import DYNAMIC_FEE_TYPE
from astralink_node.storage.memory import MemoryStore
from astralink_node.storage.store import Store
from astralink_node.types import Address
from consensus.certificate import Certificate, bitmap_of, encode_certificate
from consensus.checkpoint import Checkpoint
from consensus.epoch import last_height
from consensus.messages import VoteType, reveal_sign_bytes, signing_root, vote_sign_bytes
from consensus.proposer_selection import proposer
from consensus.staking_params import StakingParams
from consensus.validator_set import ValidatorSet
from genesis.dev_accounts import DEVNET_ACCOUNTS
from genesis.devnet_terms import DEVNET_BALANCE_WEI, DEVNET_CHAIN_ID
from genesis.presets import new_genesis
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
        checkpoint_key=ml_dsa.public_key(checkpoint_seed(number)),
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
    staking: StakingParams | None = None,
    stakes_bwt: Sequence[int] = (),
) -> bytes:
    """A devnet-like genesis: the ten developers' accounts funded, `validator_count` validators, equal ones unless
    `stakes_bwt` says what each has."""
    alloc = {account.address: GenesisAccount(DEVNET_BALANCE_WEI, 0, b"", ()) for account in DEVNET_ACCOUNTS}
    return new_genesis(
        chain_id=chain_id,
        network_name="test",
        timestamp=timestamp,
        seed=bytes(32),
        validators=[genesis_validator(number, *(stakes_bwt[number : number + 1])) for number in range(validator_count)],
        alloc={**alloc, **(extra_alloc or {})},
        block_interval_ms=BLOCK_INTERVAL_MS,
        epoch_length=epoch_length,
        max_gas_target=max_gas_target,
        staking=staking,
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


def checkpoint_seed(number: int) -> ml_dsa.Seed:
    return ml_dsa.Seed(bytes([number + 1]) * 32)


def sign_checkpoint(
    unsigned: Checkpoint, voting_set: ValidatorSet, validator_count: int, genesis_hash: bytes, signers: Sequence[int]
) -> Checkpoint:
    """Signed by the members at those ascending indices of the set."""
    numbers = [bls.public_key(voting_secret(number)) for number in range(validator_count)]
    seeds = [checkpoint_seed(numbers.index(voting_set.validators[index].voting_key)) for index in signers]
    message = signing_root(unsigned.sign_bytes(genesis_hash))
    return replace(
        unsigned,
        signers=bitmap_of(signers, len(voting_set)),
        keys=tuple(ml_dsa.public_key(seed) for seed in seeds),
        signatures=tuple(ml_dsa.sign(seed, message) for seed in seeds),
    )


# --- Contracts, each a few bytes of code, at fixed addresses ---------------------------------------------------

COUNTER = Address(bytes.fromhex("c0") * 20)
"""Raises its slot 0 by one."""
LOGGER = Address(bytes.fromhex("c1") * 20)
"""Emits one log whose only topic is the first word of its input, and whose data is empty."""
LOOPER = Address(bytes.fromhex("c2") * 20)
"""Never ends."""
REVERTER = Address(bytes.fromhex("c3") * 20)
"""Reverts with the bytes deadbeef."""
BURNER = Address(bytes.fromhex("c4") * 20)
"""Uses up all its gas at once."""

EMITTER = Address(bytes.fromhex("c5") * 20)
"""Emits empty logs, at 400 gas each, until 2,000 gas are left."""

CONTRACTS: Mapping[Address, GenesisAccount] = {
    COUNTER: GenesisAccount(0, 1, bytes.fromhex("5f546001015f5500"), ((7, 70),)),
    LOGGER: GenesisAccount(0, 1, bytes.fromhex("5f355f5fa100"), ()),
    LOOPER: GenesisAccount(0, 1, bytes.fromhex("5b5f56"), ()),
    EMITTER: GenesisAccount(0, 1, bytes.fromhex("5b5f5fa06107d05a115f5700"), ()),
    BURNER: GenesisAccount(0, 1, bytes.fromhex("fe"), ()),
    REVERTER: GenesisAccount(0, 1, bytes.fromhex("63deadbeef5f526004601cfd"), ()),
}
GWEI = 10**9


def candidate(
    account: int,
    nonce: int,
    *,
    to: bytes = bytes(19) + b"\x77",
    value: int = 1,
    gas: int = 21_000,
    data: bytes = b"",
    max_fee: int = 10 * GWEI,
    tip: int = GWEI,
    chain_id: int = DEVNET_CHAIN_ID,
) -> Candidate:
    """A signed EIP-1559 transaction of one of the developers' accounts, with its sender."""
    unsigned = new_transaction(
        DYNAMIC_FEE_TYPE,
        chain_id=chain_id,
        nonce=nonce,
        max_fee_per_gas=max_fee,
        max_priority_fee_per_gas=tip,
        gas_limit=gas,
        to=to,
        value=value,
        data=data,
    )
    owner = DEVNET_ACCOUNTS[account]
    return Candidate(sign_transaction(unsigned, owner.private_key).raw, owner.address)


class LocalChain:
    """An execution facade on a store, and everything needed to make its next block."""

    def __init__(
        self,
        store: Store | None = None,
        *,
        genesis: bytes | None = None,
        validators: int = 1,
        config: ExecutionConfig | None = None,
        now_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.store: Store = MemoryStore() if store is None else store
        self.genesis = genesis_text(validators, extra_alloc=CONTRACTS) if genesis is None else genesis
        self.validators = validators
        initialise(self.store, self.genesis)
        self.config = config or ExecutionConfig()
        self.execution = Execution.open(self.store, self.config, now_ns=now_ns)

    @property
    def secrets(self) -> list[bls.SecretKey]:
        return secrets_of(self.execution.context.voting_set, self.validators)

    def build_request(
        self,
        candidates: Sequence[Candidate] = (),
        *,
        round_: int = 0,
        budget_ms: int = 60_000,
        first_budget_ms: int = 0,
        time_ms: int = 0,
        fee_preference: FeePreference | None = None,
        checkpoint: bytes = b"",
        late_credits: Sequence[bytes] = (),
        evidence: Sequence[bytes] = (),
    ) -> Build:
        context = self.execution.context
        status = self.execution.status()
        index = proposer(context.priorities, context.voting_set, round_)
        attributes = BuildAttributes(
            time_ms=time_ms,
            fee_recipient=bytes(19) + b"\xfe",
            round_=round_,
            proposer_index=index,
            reveal=reveal(self.secrets[index], context.genesis_hash, context.height),
            parent_certificate=status.head_certificate,
            fee_preference=fee_preference,
            checkpoint=checkpoint,
            late_credits=tuple(late_credits),
            evidence=tuple(evidence),
        )
        return Build(status.head_hash, attributes, tuple(candidates), budget_ms, first_budget_ms)

    def build(self, candidates: Sequence[Candidate] = (), **options: Any) -> Built:
        built = self.execution.build(self.build_request(candidates, **options))
        assert isinstance(built, Built), built
        return built

    def certificate(self, block_hash: bytes, *, signers: Sequence[int] | None = None) -> bytes:
        context = self.execution.context
        return commit_certificate(self.secrets, context.genesis_hash, context.height, block_hash, signers=signers)

    def commit(self, block_hash: bytes) -> Committed:
        committed = self.execution.commit(Commit(block_hash, self.certificate(block_hash)))
        assert isinstance(committed, Committed), committed
        return committed

    def produce(self, candidates: Sequence[Candidate] = (), **options: Any) -> Committed:
        """Build a block and commit it."""
        return self.commit(self.build(candidates, **options).block_hash)

    def checkpoint(self, epoch: int, /, signers: Sequence[int] | None = None, **changes: Any) -> Checkpoint:
        """The checkpoint of a finished epoch by those members (all if not given), its fields changed before signing."""
        context = self.execution.context
        height = last_height(epoch, context.genesis.epoch_length)
        unsigned = Checkpoint(
            epoch=epoch,
            height=height,
            block_hash=context.block_hash_at(height),
            next_set_hash=context.voting_set_at(height + 1).hash,
            signers=b"",
            keys=(),
            signatures=(),
        )
        return sign_checkpoint(
            replace(unsigned, **changes),
            context.voting_set_at(height),
            self.validators,
            context.genesis_hash,
            range(self.validators) if signers is None else signers,
        )

    def follow(self, built: Built, certificate: bytes) -> Committed:
        """Validate and commit another chain's block."""
        answer = self.execution.validate(Validate(built.raw_block))
        assert answer == Valid(built.block_hash), answer
        committed = self.execution.commit(Commit(built.block_hash, certificate))
        assert isinstance(committed, Committed), committed
        return committed

    def reopened(self) -> "LocalChain":
        """As another process would find it."""
        return LocalChain(self.store, genesis=self.genesis, validators=self.validators, config=self.config)
