"""The staking contracts in our own EVM: calls from anybody or the protocol, blocks, keys with their proofs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from py_arkworks_bls12381 import G2Point

from astralink_node.crypto import bls, ml_dsa
from astralink_node.crypto.keccak import keccak256
from astralink_node.evm.execution_context import TransactionContext
from astralink_node.evm.fork_rules import OSAKA
from astralink_node.evm.machine import Message
from astralink_node.evm.pipeline import BlockContext
from astralink_node.evm.scratch_state import ScratchState
from astralink_node.evm.system_calls import SYSTEM_CALL_GAS
from astralink_node.evm.system_places import SYSTEM_ADDRESS
from astralink_node.evm.transaction_execution import run_root_call
from astralink_node.evm.vm import ExecutionState
from astralink_node.types import ZERO_ADDRESS, ZERO_HASH, Address
from contracts.artifacts import Artifact, decode_error, decode_event, decode_result, encode_call, load
from contracts.places import CONTRACTS, GOVERNANCE, KEY_PROOFS, STAKING

COIN = 10**18
CHAIN_ID = 7_777
EPOCH_LENGTH = 100
GENESIS_MS = 1_800_000_000_000
SUPPLY = 10**9 * COIN
GENESIS_GAS = 200_000_000
CALL_GAS = 16_777_216
RICH = 10**7 * COIN

PARAMETERS = (
    32 * COIN,
    64,
    1_814_400_000,
    100,
    20,
    5_000,
    100,
    600_000,
    2,
    500,
    700,
    2_000,
    1_300,
    6_700,
    500,
    0,
    200,
)
"""The devnet's, with a downtime window of 20 heights."""
INITIAL_BPS = 1_000


def account(number: int) -> Address:
    """Neither a precompile's nor a contract's."""
    return Address(b"\xac" * 16 + number.to_bytes(4, "big"))


@dataclass(frozen=True, slots=True)
class Call:
    """What came of a call."""

    succeeded: bool
    values: tuple[Any, ...]
    """What the function returned."""
    reason: str | None
    """Of a refusal."""
    events: tuple[tuple[str, dict[str, Any]], ...]
    gas_used: int
    """Without what a transaction costs in itself, and before refunds."""


@dataclass(frozen=True, slots=True)
class Keys:
    """A validator's keys as `create_validator` takes them."""

    operator: Address
    voting_key: bytes
    """48 bytes, compressed."""
    voting_point: bytes
    possession: bytes
    checkpoint_key: bytes
    checkpoint_possession: bytes

    @property
    def checkpoint_key_hash(self) -> bytes:
        return keccak256(self.checkpoint_key)


@cache
def keys(operator: Address, number: int = 0) -> Keys:
    """Real keys, proven for the operator; another number gives others."""
    seed = keccak256(operator + number.to_bytes(4, "big"))
    secret = bls.SecretKey((int.from_bytes(seed, "big") >> 3).to_bytes(32, "big"))
    voting_key = bls.public_key(secret)
    mldsa_seed = ml_dsa.Seed(seed)
    checkpoint_key = ml_dsa.public_key(mldsa_seed)
    return Keys(
        operator=operator,
        voting_key=voting_key,
        voting_point=bls.aggregate_public_keys_eip2537([voting_key]),
        possession=g2_eip2537(bls.prove_possession(secret)),
        checkpoint_key=checkpoint_key,
        checkpoint_possession=ml_dsa.sign(mldsa_seed, checkpoint_message(operator, keccak256(checkpoint_key))),
    )


def checkpoint_message(operator: bytes, key_hash: bytes, chain_id: int = CHAIN_ID) -> bytes:
    return keccak256(b"ALNK:keyproof/v1" + chain_id.to_bytes(32, "big") + operator + key_hash)


def g2_eip2537(compressed: bytes) -> bytes:
    coordinates = bytes(G2Point.from_compressed_bytes(compressed).to_xy_bytes_be())
    return b"".join(bytes(16) + coordinates[start : start + 48] for start in range(0, 192, 48))


def genesis_validator(operator: Address, stake: int) -> tuple[bytes, bytes, bytes, int]:
    """With keys that nobody holds: quick, and never verified by a call of the protocol."""
    return (
        operator,
        b"\x80" + keccak256(operator) + keccak256(operator + b"low")[:15],
        keccak256(operator + b"checkpoint"),
        stake,
    )


class StakingWorld:
    """The contracts as genesis leaves them, and the block in which the next call runs."""

    def __init__(
        self,
        stakes: Sequence[tuple[Address, int]],
        *,
        parameters: Sequence[int] = PARAMETERS,
        inflation_bps: int = INITIAL_BPS,
        supply: int = SUPPLY,
        epoch_length: int = EPOCH_LENGTH,
        rich: Sequence[Address] = (),
        balance_wei: int = RICH,
        codes: Mapping[Address, bytes] | None = None,
    ) -> None:
        self.staking, self.key_proofs = load("Staking"), load("KeyProofs")
        alloc: dict[str, dict[str, object]] = {
            "0x" + place.hex(): {"code": "0x" + load(name).runtime_code.hex(), "nonce": 1}
            for name, place in CONTRACTS.items()
        }
        alloc["0x" + STAKING.hex()]["balance"] = sum(stake for _, stake in stakes)
        for holder in {*rich, *(operator for operator, _ in stakes)}:
            alloc["0x" + holder.hex()] = {"balance": balance_wei}
        for place, code in (codes or {}).items():
            alloc["0x" + place.hex()] = {"balance": balance_wei, "code": "0x" + code.hex(), "nonce": 1}
        self.overlay = ScratchState(alloc).overlay()
        self.height = 0
        self.time_ms = GENESIS_MS
        self.initialised = self.call(
            SYSTEM_ADDRESS,
            "initialise",
            [genesis_validator(operator, stake) for operator, stake in stakes],
            list(parameters),
            inflation_bps,
            supply,
            GENESIS_MS,
            keccak256(b"set 0"),
            epoch_length,
            gas=GENESIS_GAS,
        )
        assert self.initialised.succeeded, self.initialised.reason

    def system(self, function: str, *args: object) -> Call:
        return self.call(SYSTEM_ADDRESS, function, *args, gas=SYSTEM_CALL_GAS)

    def view(self, function: str, *args: object) -> Any:
        """The value that a view returns, or a tuple of them."""
        call = self.call(ZERO_ADDRESS, function, *args)
        assert call.succeeded, call.reason
        return call.values if len(call.values) > 1 else call.values[0]

    def call(
        self,
        sender: Address,
        function: str,
        *args: object,
        value: int = 0,
        gas: int = CALL_GAS,
        at: bytes = STAKING,
    ) -> Call:
        """One root call, as by a transaction without fees."""
        artifact = {STAKING: self.staking, KEY_PROOFS: self.key_proofs, GOVERNANCE: load("Governance")}[at]
        data = encode_call(artifact, function, args)
        return self.call_data(sender, data, artifact, function, value=value, gas=gas, at=at)

    def call_data(
        self,
        sender: Address,
        data: bytes,
        artifact: Artifact,
        function: str | None,
        *,
        value: int = 0,
        gas: int = CALL_GAS,
        at: bytes = STAKING,
    ) -> Call:
        overlay = self.overlay
        overlay.begin_transaction()
        overlay.mark_address_warm(sender)
        overlay.mark_address_warm(Address(at))
        state = ExecutionState(overlay, self._block(), CHAIN_ID, OSAKA, native_precompiles=True)
        message = Message(gas=gas, to=at, sender=sender, value=value, data=data, code=overlay.get_code(Address(at)))
        gas_left, error, output = run_root_call(state, message, TransactionContext(0, sender))
        if error is not None:
            overlay.begin_transaction()
            return Call(False, (), decode_error(output) or f"{type(error).__name__}: {error}", (), gas - gas_left)
        events = tuple(_event(raw) for raw in state.logs)
        values = decode_result(artifact, function, output) if function else (output,)
        return Call(True, values, None, events, gas - gas_left)

    def advance(self, heights: int = 1, seconds: int = 2) -> None:
        """Later blocks, with no calls in those between."""
        self.height += heights
        self.time_ms += 1_000 * seconds

    def begin_block(
        self,
        proposer: Address = ZERO_ADDRESS,
        *,
        credited: int = 1,
        total: int = 1,
        base_fees: int = 0,
        seconds: int = 2,
        credits: Sequence[tuple[int, int]] = (),
    ) -> Call:
        """The next block's start, with what the protocol then does to the contract's balance."""
        self.advance(1, seconds)
        call = self.system(
            "begin_block",
            proposer,
            credited,
            total,
            base_fees,
            [height for height, _ in credits],
            [bitmap for _, bitmap in credits],
            max(self.height - 8, 0),
        )
        assert call.succeeded, call.reason
        mint, burn, _ = call.values
        self.overlay.begin_transaction()
        self.overlay.set_balance(Address(STAKING), self.balance() + mint - burn)
        return call

    def elect(self, powers: Sequence[tuple[Address, int]]) -> Call:
        return self.system(
            "elect",
            self.epoch() + 1,
            keccak256(repr(powers).encode()),
            [operator for operator, _ in powers],
            [power for _, power in powers],
        )

    def create(
        self, operator: Address, *, stake: int = 40 * COIN, commission_bps: int = 0, name: str = "", key: int = 0
    ) -> Call:
        """Register with real keys."""
        own = keys(operator, key)
        return self.call(
            operator,
            "create_validator",
            own.voting_point,
            own.possession,
            own.checkpoint_key,
            own.checkpoint_possession,
            commission_bps,
            name,
            value=stake,
        )

    def jail(self, operator: Address, *, power: int = 100) -> Call:
        """For downtime, at a height of the current epoch."""
        return self.system("close_window", self.epoch() * EPOCH_LENGTH, [operator], [power], [operator])

    def slash(self, operator: Address, *, power: int = 100, epoch: int | None = None) -> Call:
        """For double signing."""
        at = self.epoch() if epoch is None else epoch
        return self.system("slash_double_sign", operator, power, at, keccak256(b"evidence"))

    def begin_epoch(self) -> Call:
        return self.system("begin_epoch", self.epoch() + 1, self.time_ms)

    def epoch(self) -> int:
        return int(self.view("totals")[8])

    def balance(self, of: bytes = STAKING) -> int:
        return self.overlay.get_balance(Address(of))

    def _block(self) -> BlockContext:
        return replace(_BLOCK, number=self.height, timestamp=self.time_ms // 1000)


_BLOCK = BlockContext(
    number=0,
    timestamp=0,
    coinbase=Address(b"\xfe" * 20),
    gas_limit=60_000_000,
    base_fee_per_gas=0,
    prev_randao=ZERO_HASH,
)


def _event(raw: tuple[Address, tuple[int, ...], bytes]) -> tuple[str, dict[str, Any]]:
    address, topics, data = raw
    (name,) = [name for name, place in CONTRACTS.items() if place == address]
    decoded = decode_event(load(name), [topic.to_bytes(32, "big") for topic in topics], data)
    assert decoded is not None, f"{name}: an event that its ABI lacks"
    return decoded
