"""A chain with staking driven block by block, and the reference ledger that must agree with its contract to the wei.

The reference reads only what blocks say (header, payload, certificates) and what the test tells it of transactions;
the walk of docs/staking.md, "What the protocol calls, and when", is written out once more here.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from astralink_node.chain.call_messages import CallAnswer, CallQuestion, CallRequest
from astralink_node.chain.execution import Execution
from astralink_node.chain.ledger import Ledger
from astralink_node.chain.messages import (
    AccountsAnswer,
    AccountsQuestion,
    AtLatest,
    Candidate,
    Commit,
    Committed,
    Query,
)
from astralink_node.chain.protocol_messages import ProtocolCall
from astralink_node.crypto import bls, ml_dsa
from astralink_node.crypto.keccak import keccak256
from astralink_node.economics.ledger import GenesisStake, StakingLedger
from astralink_node.economics.parameters import StakingParameters
from astralink_node.evm.blocks import Header, decode_header, encode_header
from astralink_node.storage.memory import MemoryStore
from astralink_node.storage.store import Store
from astralink_node.types import Address, Hash32
from consensus.certificate import Certificate, bitmap_of, signer_indices
from consensus.downtime import absentees, is_in_window, offenders, window_that_ends
from consensus.election import elect
from consensus.epoch import epoch_of, first_height, is_election
from consensus.evidence import Evidence
from consensus.evidence_forms import encode_any_evidence
from consensus.forged_header import ForgedHeader
from consensus.messages import NO_ROUND, VoteType, signing_root, vote_sign_bytes
from consensus.payload import ConsensusPayload, decode_payload
from consensus.staking_params import StakingParams
from consensus.validator_set import ValidatorSet
from consensus.votes import SignedVote
from contracts.artifacts import decode_result, encode_call, load
from contracts.places import GOVERNANCE, STAKING
from genesis.dev_accounts import DEVNET_ACCOUNTS
from genesis.devnet_terms import DEVNET_CHAIN_ID
from genesis.sealing import parse_genesis
from tests.support.chains import (
    CONTRACTS,
    candidate,
    checkpoint_seed,
    commit_certificate,
    genesis_text,
    genesis_validator,
    voting_secret,
)
from tests.support.snapshots import ServingChain, import_from, new_store, opened
from tests.support.staking_worlds import checkpoint_message, g2_eip2537

EPOCH_LENGTH = 20
BWT = 10**18
QUICK = StakingParams(downtime_window=8, downtime_jail_ms=1_000, base_fee_to_stakers_bps=2_500)
KNOWN_SECRETS = 8
"""Validators beyond those of genesis whose keys the chain can sign with."""


def staking_genesis(
    validators: int = 4,
    *,
    params: StakingParams = QUICK,
    epoch_length: int = EPOCH_LENGTH,
    stakes_bwt: Sequence[int] = (),
) -> bytes:
    return genesis_text(
        validators, extra_alloc=CONTRACTS, epoch_length=epoch_length, staking=params, stakes_bwt=stakes_bwt
    )


def operator_of(number: int) -> Address:
    return genesis_validator(number).operator


class StakingChain(ServingChain):
    """Every validator is named by its number, whatever set it stands in."""

    def __init__(self, store: Store | None = None, *, genesis: bytes | None = None) -> None:
        given = staking_genesis() if genesis is None else genesis
        super().__init__(given, validators=KNOWN_SECRETS, store=MemoryStore() if store is None else store)

    def reopened(self) -> "StakingChain":
        return StakingChain(self.store, genesis=self.genesis)

    # --- Blocks ----------------------------------------------------------------------------------------------------

    def indices(self, numbers: Collection[int]) -> list[int]:
        """Where these validators stand in the set that votes now."""
        found = (self.execution.context.voting_set.index_of(bls.public_key(voting_secret(n))) for n in numbers)
        return sorted(index for index in found if index is not None)

    def step(
        self,
        candidates: Sequence[Candidate] = (),
        *,
        absent: Collection[int] = (),
        decided_in: int = 0,
        seconds: int = 1,
        **options: Any,
    ) -> Committed:
        """Build, `seconds` after the parent, and commit with the precommits of all but `absent`."""
        time_ms = self.execution.context.parent_payload.time_ms + 1_000 * seconds
        built = self.build(candidates, **{"time_ms": time_ms, **options})
        context, missing = self.execution.context, self.indices(absent)
        signers = [index for index in range(len(context.voting_set)) if index not in missing]
        certificate = commit_certificate(
            self.secrets,
            context.genesis_hash,
            context.height,
            built.block_hash,
            round_=decided_in,
            signers=signers,
        )
        committed = self.execution.commit(Commit(built.block_hash, certificate))
        assert isinstance(committed, Committed), committed
        return committed

    def advance_to(self, height: int, **options: Any) -> None:
        while self.head_height < height:
            self.step(**options)

    @property
    def head_height(self) -> int:
        return self.execution.context.height - 1

    @property
    def voters(self) -> set[Address]:
        """Operators of the set that votes on the next block."""
        return {Address(member.operator) for member in self.execution.context.voting_set.validators}

    # --- What the contract says ------------------------------------------------------------------------------------

    def view(self, function: str, *arguments: object) -> Any:
        data = encode_call(load("Staking"), function, arguments)
        request = CallRequest(bytes(20), STAKING, 20_000_000, None, None, None, 0, data, (), None)
        answer = self.execution.query(Query(AtLatest(), CallQuestion(request)))
        assert isinstance(answer, CallAnswer), answer
        assert answer.status == "ok", answer
        values = decode_result(load("Staking"), function, answer.output)
        return values[0] if len(values) == 1 else values

    def balance(self, address: bytes = STAKING) -> int:
        answer = self.execution.query(Query(AtLatest(), AccountsQuestion((address,))))
        assert isinstance(answer, AccountsAnswer)
        return answer.accounts[0].balance_wei

    def protocol_log(self, height: int | None = None) -> tuple[ProtocolCall, ...]:
        return Ledger(self.store).protocol_log(self.head_height if height is None else height)

    # --- Transactions and crimes -----------------------------------------------------------------------------------

    def send(
        self, account: int, nonce: int, function: str, *arguments: object, value: int = 0, gas: int = 2_000_000
    ) -> Candidate:
        data = encode_call(load("Staking"), function, arguments)
        return candidate(account, nonce, to=STAKING, value=value, gas=gas, data=data)

    def govern(self, account: int, nonce: int, function: str, *arguments: object) -> Candidate:
        data = encode_call(load("Governance"), function, arguments)
        return candidate(account, nonce, to=GOVERNANCE, value=0, gas=2_000_000, data=data)

    def registration(self, account: int, nonce: int, number: int, stake_wei: int) -> Candidate:
        """The developer's account becomes the operator of validator `number`."""
        secret, seed = voting_secret(number), checkpoint_seed(number)
        key = ml_dsa.public_key(seed)
        message = checkpoint_message(DEVNET_ACCOUNTS[account].address, keccak256(key), DEVNET_CHAIN_ID)
        return self.send(
            account,
            nonce,
            "create_validator",
            bls.aggregate_public_keys_eip2537([bls.public_key(secret)]),
            g2_eip2537(bls.prove_possession(secret)),
            key,
            ml_dsa.sign(seed, message),
            500,
            f"validator {number}",
            value=stake_wei,
            gas=5_000_000,
        )

    def rotation(self, account: int, nonce: int, number: int) -> Candidate:
        """The operator goes on with the voting key of validator `number`."""
        secret = voting_secret(number)
        point = bls.aggregate_public_keys_eip2537([bls.public_key(secret)])
        return self.send(account, nonce, "rotate_voting_key", point, g2_eip2537(bls.prove_possession(secret)))

    def double_precommit(self, number: int, height: int) -> Evidence:
        """What convicts the validator of having precommitted two blocks at a height that is decided."""
        voting_set = self.execution.context.voting_set_at(height)
        index = voting_set.index_of(bls.public_key(voting_secret(number)))
        assert index is not None, "only a member can be convicted"
        first, second = (self._precommit(number, index, height, bytes([mark]) * 32) for mark in (1, 2))
        return Evidence(first, second)

    def raw_double_precommit(self, number: int, height: int) -> bytes:
        return encode_any_evidence(self.double_precommit(number, height))

    def forged_header(self, numbers: Collection[int], height: int, *, parent_hash: bytes = b"f" * 32) -> ForgedHeader:
        """The chain's own header of that height but for its parent, precommitted by these members of its set."""
        header = Ledger(self.store).header(height)
        return self.signed_header(replace(header, parent_hash=Hash32(parent_hash)), numbers)

    def signed_header(self, header: Header, numbers: Collection[int]) -> ForgedHeader:
        """Any header, precommitted at its own height."""
        voting_set = self.execution.context.voting_set_at(header.number)
        secrets = {
            voting_set.index_of(bls.public_key(voting_secret(number))): voting_secret(number) for number in numbers
        }
        signers = sorted(index for index in secrets if index is not None)
        assert len(signers) == len(numbers), "only members can be accused"
        genesis_hash = self.execution.context.genesis_hash
        kind, height, block_hash = VoteType.PRECOMMIT, header.number, header.hash
        message = signing_root(vote_sign_bytes(genesis_hash, height, 0, kind, block_hash, NO_ROUND))
        signature = bls.aggregate([bls.sign(secrets[index], message) for index in signers])
        bitmap = bitmap_of(signers, len(voting_set))
        certificate = Certificate(kind, height, 0, NO_ROUND, block_hash, bitmap, signature)
        return ForgedHeader(encode_header(header), certificate)

    def _precommit(self, number: int, index: int, height: int, block_hash: bytes) -> SignedVote:
        genesis_hash = self.execution.context.genesis_hash
        message = signing_root(vote_sign_bytes(genesis_hash, height, 0, VoteType.PRECOMMIT, block_hash, -1))
        signature = bls.sign(voting_secret(number), message)
        return SignedVote(VoteType.PRECOMMIT, height, 0, block_hash, -1, index, signature)


def imported(chain: StakingChain, height: int) -> Execution:
    """A node that joined by the chain's snapshot of that height, and has nothing else of its past."""
    execution = opened(new_store(chain.genesis))
    import_from(chain, height, execution)
    return execution


def eventful_chain() -> StakingChain:
    """An election, evidence, a jailing, and two epochs' ends."""
    chain = StakingChain()
    chain.step([chain.registration(5, 0, 5, 50 * BWT), candidate(0, 0)])
    chain.advance_to(6, absent=[3])
    chain.step(evidence=[chain.raw_double_precommit(1, 3)], absent=[3])
    chain.advance_to(2 * EPOCH_LENGTH + 3, absent=[3])
    return chain


class Reference:
    """The reference ledger beside a chain: `follow` each block after its commit, transactions in between."""

    def __init__(self, genesis: bytes) -> None:
        parsed = parse_genesis(genesis)
        assert parsed.staking is not None
        self._epoch_length = parsed.epoch_length
        self._parameters = StakingParameters(*parsed.staking.by_id)
        self._set = parsed.validator_set()
        self._sets: dict[int, ValidatorSet] = {1: self._set}
        self.ledger = StakingLedger.initialise(
            [
                GenesisStake(entry.operator, entry.voting_key, keccak256(entry.checkpoint_key), entry.stake_wei)
                for entry in parsed.validators
            ],
            self._parameters,
            inflation_initial_bps=parsed.staking.inflation_initial_bps,
            supply_wei=sum(account.balance_wei for account in parsed.alloc.values()),
            timestamp=parsed.timestamp,
            set_hash=self._set.hash,
        )
        self._parent: Header | None = None
        self._parent_time_ms = parsed.time_ms
        self.timestamp = parsed.timestamp

    def set_at(self, height: int) -> ValidatorSet:
        return self._sets[max(first for first in self._sets if first <= height)]

    def before_transactions(self, committed: Committed, tombstoned: Mapping[Address, tuple[int, int]] = {}) -> None:
        """`tombstoned`: operator -> (power, epoch) of those whom the block's evidence convicts, in its order."""
        header, payload = _decoded(committed)
        height, self.timestamp = header.number, header.timestamp
        for operator, (power, epoch) in tombstoned.items():
            self.ledger.slash_double_sign(operator, power, epoch, bytes(32), timestamp=self.timestamp)
        epoch = epoch_of(height, self._epoch_length)
        if height == first_height(epoch, self._epoch_length):
            self.ledger.begin_epoch(epoch, self._parent_time_ms, height=height)
        self._begin_block(height, payload)
        self._parent, self._parent_time_ms = header, payload.time_ms

    def after_transactions(self, committed: Committed) -> None:
        height = _decoded(committed)[0].number
        if not is_election(height, self._epoch_length):
            return
        members = elect(self.ledger.candidates(), self._parameters.max_validators) or self.set_at(height).validators
        chosen = ValidatorSet(members, bls.aggregate_public_keys_eip2537([one.voting_key for one in members]))
        self.ledger.elect(
            epoch_of(height, self._epoch_length) + 1,
            chosen.hash,
            [Address(member.operator) for member in members],
            [member.power for member in members],
            timestamp=self.timestamp,
        )
        self._sets[height + 2] = chosen

    def follow(self, committed: Committed) -> None:
        """A block without transactions of stake, and without evidence."""
        self.before_transactions(committed)
        self.after_transactions(committed)

    def _begin_block(self, height: int, payload: ConsensusPayload) -> None:
        parent, certificate = self._parent, payload.parent_certificate
        credits: list[tuple[int, int]] = []
        credited = total = 1
        if certificate is not None:
            voters = self.set_at(certificate.height)
            total = voters.total_power
            credited = sum(voters.validators[index].power for index in signer_indices(certificate.signers))
            everybody = (1 << 256) - 1
            bitmap = everybody if certificate.round_ else int.from_bytes(certificate.signers, "little")
            credits.append((certificate.height, bitmap))
        credits += [(one.height, int.from_bytes(one.signers, "little")) for one in payload.late_credits]
        judged = max(height - 8, 0)
        base_fees = 0 if parent is None else (parent.base_fee_per_gas or 0) * parent.gas_used
        _, _, bitmap = self.ledger.begin_block(
            Address(self.set_at(height).validators[payload.proposer_index].operator),
            credited,
            total,
            base_fees,
            [at for at, _ in credits],
            [bits for _, bits in credits],
            judged,
            timestamp=self.timestamp,
        )
        if judged:
            self._judge(judged, bitmap)

    def _judge(self, judged: int, bitmap: int) -> None:
        window, members = self._parameters.downtime_window, self.set_at(judged).validators
        operators = [Address(member.operator) for member in members]
        if is_in_window(judged, self._epoch_length, window):
            absent = [operators[index] for index in absentees(bitmap, len(members))]
            self.ledger.note_absent(judged, absent)
        if window_that_ends(judged, self._epoch_length, window) is not None:
            punished = offenders(
                members,
                self.ledger.missed(operators),
                window=window,
                min_signed_bps=self._parameters.downtime_min_signed_bps,
                room=self.ledger.room_to_jail(),
            )
            self.ledger.close_window(
                judged,
                [Address(member.operator) for member in punished],
                [member.power for member in punished],
                operators,
                timestamp=self.timestamp,
            )

    def differences(self, chain: StakingChain) -> list[str]:
        """What the contract and the reference say differently; empty if they agree to the wei."""
        totals = self.ledger.totals
        expected: dict[str, object] = {
            "totals": (
                totals.bonded,
                totals.unbonding,
                totals.owed,
                totals.minted,
                totals.burned,
                totals.supply,
                totals.rate,
                totals.active_tokens,
                totals.epoch,
            ),
            "balance": totals.balance,
            "jailed": totals.jailed_this_epoch,
        }
        found: dict[str, object] = {
            "totals": tuple(chain.view("totals")),
            "balance": chain.balance(),
            "jailed": chain.view("jailed_this_epoch"),
        }
        for operator in self.ledger.operators():
            record = self.ledger.settled_validator(operator)
            name = operator.hex()
            expected[name] = (
                record.tokens,
                record.shares,
                record.commission,
                record.active,
                record.jailed,
                record.tombstoned,
                record.missed,
            )
            seen = chain.view("validator", operator)
            found[name] = tuple(
                seen[field]
                for field in ("tokens", "shares", "commission_wei", "active", "jailed", "tombstoned", "missed")
            )
        return [f"{name}: {expected[name]} and {found[name]}" for name in expected if expected[name] != found[name]]


def _decoded(committed: Committed) -> tuple[Header, ConsensusPayload]:
    return decode_header(committed.block.raw_header), decode_payload(committed.block.raw_payload)
