"""A hundred epochs with many delegators, in the contract and in the reference ledger: what each call cost and paid."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from functools import cache
from typing import Final

from astralink_node.crypto.keccak import keccak256
from astralink_node.economics.ledger import GenesisStake, StakingLedger
from astralink_node.economics.parameters import StakingParameters
from astralink_node.evm.system_calls import SYSTEM_CALL_GAS
from astralink_node.evm.system_places import SYSTEM_ADDRESS
from astralink_node.types import Address
from tests.support.staking_worlds import (
    COIN,
    GENESIS_MS,
    INITIAL_BPS,
    SUPPLY,
    Call,
    StakingWorld,
    account,
    genesis_validator,
)

EPOCHS: Final = 100
EPOCH: Final = 8
BLOCKS: Final = 3
"""Of each epoch that are run; of the others nothing happens, as if they had failed."""
JAILED, UNJAILED = 50, 60
"""Epochs."""
A, B = account(1), account(2)
STAKES: Final = [(A, 100_000 * COIN), (B, 300_000 * COIN)]
PARAMETERS: Final = StakingParameters(
    downtime_window=8, unbonding_ms=60_000, downtime_jail_ms=1_000, base_fee_to_stakers_bps=5_000
)


@dataclass(slots=True)
class LongRun:
    """What a hundred epochs came to."""

    gas: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    """By function, in the order of the calls."""
    paid: list[tuple[int, ...]] = field(default_factory=list)
    """By the contract, to each delegator in the end: at A, at B."""
    expected: list[tuple[int, ...]] = field(default_factory=list)
    """The ledger's numbers."""
    owed: int = 0
    """What the contract then still owes: the operators' own, and roundings."""
    owed_by_ledger: int = 0

    def note(self, name: str, call: Call) -> Call:
        assert call.succeeded, f"{name}: {call.reason}"
        self.gas[name].append(call.gas_used)
        return call


@cache
def long_run(delegators: int) -> LongRun:
    """Two validators, each with so many delegators; an epoch has a claim, a delegation, three blocks, an election."""
    holders = [account(10_000 + number) for number in range(delegators)]
    world = StakingWorld(STAKES, parameters=PARAMETERS.values(), epoch_length=EPOCH, rich=holders)
    ledger = StakingLedger.initialise(
        [GenesisStake(*genesis_validator(*stake)) for stake in STAKES],
        PARAMETERS,
        inflation_initial_bps=INITIAL_BPS,
        supply_wei=SUPPLY,
        timestamp=GENESIS_MS // 1000,
        set_hash=keccak256(b"set 0"),
    )
    run = LongRun()
    for operator, _ in STAKES:
        world.advance(0, 86_400)
        run.note("set_commission", world.call(operator, "set_commission", 100))
        ledger.set_commission(operator, 100, timestamp=_now(world))
    _block(run, world, ledger)
    for number, holder in enumerate(holders):
        for operator in (A, B):
            _delegate(run, "delegate, first", world, ledger, holder, operator, (1 + number % 7) * COIN + number)
    for epoch in range(EPOCHS):
        if epoch:
            world.advance(EPOCH - BLOCKS, 12)
            run.note("begin_epoch", world.system("begin_epoch", epoch, world.time_ms))
            ledger.begin_epoch(epoch, world.time_ms, height=world.height)
        for _ in range(BLOCKS):
            _block(run, world, ledger)
        # The same one claims each time: what it pays for is its own history, not how many there are.
        other = holders[1 + epoch * 7 % (delegators - 1)]
        _claim(run, world, ledger, holders[0], B)
        _delegate(run, "delegate, more", world, ledger, other, A, COIN + epoch)
        if epoch == JAILED:
            arguments = (world.height, [B], [300_000], [A, B])
            run.note("close_window", world.call(SYSTEM_ADDRESS, "close_window", *arguments, gas=SYSTEM_CALL_GAS))
            ledger.close_window(*arguments, timestamp=_now(world))
        if epoch == UNJAILED:
            run.note("unjail", world.call(B, "unjail"))
            ledger.unjail(B, timestamp=_now(world))
        found = ledger.candidates()
        chosen = [entry.operator for entry in found], [entry.tokens_wei // COIN for entry in found]
        run.note("elect", world.system("elect", epoch + 1, bytes(32), *chosen))
        ledger.elect(epoch + 1, bytes(32), *chosen, timestamp=_now(world))
    _block(run, world, ledger)
    for holder in holders:
        in_ledger = tuple(ledger.claim(holder, operator, timestamp=_now(world)) for operator in (A, B))
        in_contract = tuple(
            run.note("claim, last", world.call(holder, "claim", operator)).values[0] for operator in (A, B)
        )
        run.paid.append(in_contract)
        run.expected.append(in_ledger)
    run.owed, run.owed_by_ledger = world.view("totals")[2], ledger.totals.owed
    return run


def largest(run: LongRun) -> dict[str, int]:
    """Gas of the dearest call of each function that the protocol or a claim makes."""
    return {name: max(run.gas[name]) for name in ("begin_block", "begin_epoch", "close_window", "elect", "claim")}


def _now(world: StakingWorld) -> int:
    return world.time_ms // 1000


def _block(run: LongRun, world: StakingWorld, ledger: StakingLedger) -> None:
    fees = 10**15 + world.height
    call = run.note("begin_block", world.begin_block(A, credited=3, total=4, base_fees=fees))
    judged = max(world.height - 8, 0)
    assert call.values == ledger.begin_block(A, 3, 4, fees, [], [], judged, timestamp=_now(world))


def _claim(run: LongRun, world: StakingWorld, ledger: StakingLedger, holder: Address, operator: Address) -> None:
    call = run.note("claim", world.call(holder, "claim", operator))
    assert call.values == (ledger.claim(holder, operator, timestamp=_now(world)),)


def _delegate(
    run: LongRun,
    name: str,
    world: StakingWorld,
    ledger: StakingLedger,
    holder: Address,
    operator: Address,
    amount: int,
) -> None:
    call = run.note(name, world.call(holder, "delegate", operator, value=amount))
    assert call.values == (ledger.delegate(holder, amount, operator, timestamp=_now(world)),)
