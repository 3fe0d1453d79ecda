"""The staking contract in our EVM against the plain model of docs/staking.md: everything that holders, operators and
the protocol do, in any order. After each step every number of both is equal to the wei, and the books balance.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from astralink_node.crypto.keccak import keccak256
from astralink_node.economics.book import Refused
from astralink_node.economics.ledger import GenesisStake, StakingLedger
from astralink_node.economics.parameters import StakingParameters
from astralink_node.economics.records import SlashKind
from astralink_node.evm.system_calls import SYSTEM_CALL_GAS
from astralink_node.evm.system_places import SYSTEM_ADDRESS
from astralink_node.types import Address
from contracts.artifacts import load
from contracts.places import GOVERNANCE, STAKING
from tests.support.staking_worlds import (
    COIN,
    GENESIS_MS,
    INITIAL_BPS,
    Call,
    StakingWorld,
    account,
    genesis_validator,
    keys,
)

EPOCH = 8
GENESIS = [account(1), account(2), account(3)]
STAKES = [100 * COIN, 57 * COIN + 12_345, 3 * COIN]
NEWCOMERS = [account(4), account(5)]
HOLDERS = [account(6), account(7)]
OPERATORS = [*GENESIS, *NEWCOMERS]
EVERYBODY = [*OPERATORS, *HOLDERS]
PAYER = account(8)
"""Whose transactions burn the base fees."""
PARAMETERS = StakingParameters(
    min_stake_wei=COIN,
    max_validators=4,
    unbonding_ms=60_000,
    max_commission_change_bps=5_000,
    downtime_window=8,
    downtime_slash_bps=333,
    downtime_jail_ms=20_000,
    max_jailed_per_epoch=3,
    double_sign_slash_bps=3_333,
    inflation_max_bps=5_000,
    base_fee_to_stakers_bps=2_500,
    maintenance_max_blocks=3,
)
BALANCE = 4_000 * COIN
"""So little that what is bonded passes the goal now and then."""
ALL_EVENTS = {event.name for event in load("Staking").events.values()} - {"Displaced"}
CROWD = [account(1_000 + number) for number in range(260)]
"""Who fills the list."""
KINDS = {1: SlashKind.DOUBLE_SIGN, 2: SlashKind.DOWNTIME}

operators = st.sampled_from(OPERATORS)
everybody = st.sampled_from(EVERYBODY)
amounts = st.one_of(st.integers(1, 1_000), st.integers(10**17, 50 * COIN), st.sampled_from([COIN, 0]))
parts = st.one_of(st.just(10_000), st.integers(0, 10_000))
"""Of what somebody holds, in ten thousandths."""
seconds = st.sampled_from([0, 1, 1, 2, 2, 3, 20, 61])
picks = st.integers(0, 999)
"""One of what there is; see `StakingMachine.held`."""


def answer(operation: Callable[[], Any]) -> tuple[Any, str | None]:
    """What the model returns, and why it refuses."""
    try:
        return operation(), None
    except Refused as refusal:
        return None, str(refusal)


class StakingMachine(RuleBasedStateMachine):
    """`both` runs an operation on contract and model: refused by both, or the same answer."""

    crowd: tuple[Address, ...] = ()
    """Who may register beside the operators."""

    @initialize()
    def genesis(self) -> None:
        self.holders = [*EVERYBODY, *self.crowd]
        supply = sum(STAKES) + BALANCE * (len(self.holders) + 1)
        self.world = StakingWorld(
            list(zip(GENESIS, STAKES, strict=True)),
            parameters=PARAMETERS.values(),
            supply=supply,
            epoch_length=EPOCH,
            rich=[*self.holders, PAYER],
            balance_wei=BALANCE,
        )
        self.model = StakingLedger.initialise(
            [GenesisStake(*genesis_validator(*entry)) for entry in zip(GENESIS, STAKES, strict=True)],
            PARAMETERS,
            inflation_initial_bps=INITIAL_BPS,
            supply_wei=supply,
            timestamp=GENESIS_MS // 1000,
            set_hash=keccak256(b"set 0"),
        )
        self.staked = dict.fromkeys(self.holders, 0) | dict(zip(GENESIS, STAKES, strict=True))
        self.withdrawn = dict.fromkeys(EVERYBODY, 0)
        self.roundings = 0
        for holder in HOLDERS:
            for operator in GENESIS:
                self.delegate(holder, operator, 7 * COIN + 1)

    @property
    def now(self) -> int:
        return self.world.time_ms // 1000

    def both(
        self,
        sender: Address,
        function: str,
        arguments: tuple[object, ...],
        model: Callable[[], Any],
        *,
        value: int = 0,
        at: bytes = STAKING,
    ) -> Call:
        gas = SYSTEM_CALL_GAS if sender == SYSTEM_ADDRESS else 16_777_216
        call = self.world.call(sender, function, *arguments, value=value, gas=gas, at=at)
        expected, refusal = answer(model)
        assert not (refusal and call.succeeded), f"{function}: the model refuses ({refusal}), the contract does not"
        if refusal:
            return call
        assert call.succeeded, f"{function}: the contract refuses ({call.reason}), the model does not"
        if call.values:
            assert call.values == (expected if isinstance(expected, tuple) else (expected,)), function
        self.roundings += 1
        return call

    # --- Blocks ------------------------------------------------------------------------------------------------

    @rule(
        proposer=everybody,
        credited=st.integers(0, 100),
        fees=st.one_of(st.just(0), st.integers(0, 10**16)),
        elapsed=seconds,
        bitmap=st.integers(0, 31),
        late=st.integers(1, 7),
        to_next_epoch=st.booleans(),
    )
    def block(
        self, proposer: Address, credited: int, fees: int, elapsed: int, bitmap: int, late: int, *, to_next_epoch: bool
    ) -> None:
        world, model = self.world, self.model
        parent_ms = world.time_ms
        world.advance(EPOCH - world.height % EPOCH if to_next_epoch else 1, elapsed)
        if world.height % EPOCH == 0:
            epoch = world.height // EPOCH
            self.both(
                SYSTEM_ADDRESS,
                "begin_epoch",
                (epoch, parent_ms),
                lambda: model.begin_epoch(epoch, parent_ms, height=world.height),
            )
        heights = [height for height in (world.height - 1, world.height - 1 - late) if height > 0]
        judged = max(world.height - 8, 0)
        arguments = (proposer, credited, 100, fees, heights, [bitmap, bitmap >> 1][: len(heights)], judged)
        call = self.both(
            SYSTEM_ADDRESS, "begin_block", arguments, lambda: model.begin_block(*arguments, timestamp=self.now)
        )
        mint, burn, _ = call.values
        world.overlay.begin_transaction()
        world.overlay.set_balance(Address(STAKING), world.balance() + mint - burn)
        world.overlay.set_balance(PAYER, world.balance(PAYER) - fees)
        bonded, unbonding, owed = world.view("totals")[:3]
        assert world.balance() == bonded + unbonding + owed

    @rule(seats=st.integers(1, 4), skipped=st.integers(0, 3))
    def elect(self, seats: int, skipped: int) -> None:
        candidates = self.model.candidates()[skipped:][:seats]
        chosen = [candidate.operator for candidate in candidates]
        powers = [candidate.tokens_wei // COIN for candidate in candidates]
        arguments = (self.model.totals.epoch + 1, keccak256(b"".join(chosen)), chosen, powers)
        self.both(SYSTEM_ADDRESS, "elect", arguments, lambda: self.model.elect(*arguments, timestamp=self.now))

    @rule(absent=st.lists(operators, unique=True))
    def absence(self, absent: list[Address]) -> None:
        absent = [operator for operator in absent if operator in self.model.operators()]
        arguments = (max(self.world.height - 8, 0), absent)
        self.both(SYSTEM_ADDRESS, "note_absent", arguments, lambda: self.model.note_absent(*arguments))

    @rule(operator=operators, power=st.integers(1, 120))
    def close_window(self, operator: Address, power: int) -> None:
        members = list(self.model.operators())
        arguments = (max(self.world.height - 8, 0), [operator], [power], members)
        self.both(
            SYSTEM_ADDRESS,
            "close_window",
            arguments,
            lambda: self.model.close_window(*arguments, timestamp=self.now),
        )

    @rule(operator=operators, power=st.integers(0, 120), ago=st.integers(0, 1), rare=st.integers(0, 2))
    def double_sign(self, operator: Address, power: int, ago: int, rare: int) -> None:
        if rare:
            return
        arguments = (operator, power, max(self.model.totals.epoch - ago, 0), bytes(32))
        self.both(
            SYSTEM_ADDRESS,
            "slash_double_sign",
            arguments,
            lambda: self.model.slash_double_sign(*arguments, timestamp=self.now),
        )

    @rule(operator=operators, power=st.integers(0, 120), ago=st.integers(0, 1))
    def freeze(self, operator: Address, power: int, ago: int) -> None:
        epoch = max(self.model.totals.epoch - ago, 0)
        arguments = (operator, power, epoch, keccak256(operator + epoch.to_bytes(8, "big")))
        self.both(SYSTEM_ADDRESS, "freeze", arguments, lambda: self.model.freeze(*arguments))

    @rule(operator=operators, rare=st.integers(0, 2))
    def judge(self, operator: Address, rare: int) -> None:
        """Somebody frozen, if there is one."""
        frozen = [entry for entry in self.model.operators() if self.model.validator(entry).freeze]
        accused, guilty = frozen[0] if frozen else operator, rare == 0
        self.both(
            GOVERNANCE,
            "judge",
            (accused, guilty),
            lambda: self.model.judge(accused, guilty=guilty, timestamp=self.now),
        )

    @rule(operator=operators)
    def displace(self, operator: Address) -> None:
        self.both(HOLDERS[0], "displace", (operator,), lambda: self.model.displace(operator))

    @rule(
        change=st.sampled_from(
            [(0, 2 * COIN), (6, 777), (13, 100), (13, 3_000), (14, 5_000), (15, 0), (10, 5_001), (2, 1)]
        )
    )
    def govern(self, change: tuple[int, int]) -> None:
        self.both(GOVERNANCE, "set_parameter", change, lambda: self.model.set_parameter(*change))

    # --- Operators ---------------------------------------------------------------------------------------------

    @rule(
        operator=operators,
        stake=st.sampled_from([COIN - 1, COIN, 40 * COIN + 3]),
        commission=st.integers(0, 10_000),
        chore=st.integers(0, 6),
        length=st.integers(0, 4),
        number=st.integers(0, 2),
    )
    def run_a_validator(
        self, operator: Address, stake: int, commission: int, chore: int, length: int, number: int
    ) -> None:
        """One of an operator's chores; whatever else it drew is of no consequence."""
        match chore:
            case 0 | 1:
                self.create(operator if chore else NEWCOMERS[number % 2], stake, commission)
            case 2:
                self.set_commission(operator, commission)
            case 3:
                self.both(operator, "withdraw_commission", (), lambda: self.model.withdraw_commission(operator))
            case 4:
                self.both(operator, "unjail", (), lambda: self.model.unjail(operator, timestamp=self.now))
            case 5:
                self.announce_maintenance(operator, self.world.height + 6 + number, length)
            case _:
                self.rotate_keys(operator, number)

    def create(self, operator: Address, stake: int, commission: int) -> None:
        own = keys(operator)
        call = self.both(
            operator,
            "create_validator",
            (own.voting_point, own.possession, own.checkpoint_key, own.checkpoint_possession, commission, "name"),
            lambda: self.model.create_validator(
                operator, stake, own.voting_key, own.checkpoint_key_hash, commission, "name", timestamp=self.now
            ),
            value=stake,
        )
        if call.succeeded:
            self.staked[operator] += stake

    def set_commission(self, operator: Address, commission: int) -> None:
        self.world.advance(0, 86_400 * (commission % 2))
        self.both(
            operator,
            "set_commission",
            (commission,),
            lambda: self.model.set_commission(operator, commission, timestamp=self.now),
        )

    def announce_maintenance(self, operator: Address, first: int, heights: int) -> None:
        self.both(
            operator,
            "announce_maintenance",
            (first, heights),
            lambda: self.model.announce_maintenance(operator, first, heights, height=self.world.height),
        )

    def rotate_keys(self, operator: Address, number: int) -> None:
        own, model = keys(operator, number), self.model
        self.both(
            operator,
            "rotate_voting_key",
            (own.voting_point, own.possession),
            lambda: model.rotate_voting_key(operator, own.voting_key),
        )
        self.both(
            operator,
            "rotate_checkpoint_key",
            (own.checkpoint_key, own.checkpoint_possession),
            lambda: model.rotate_checkpoint_key(operator, own.checkpoint_key_hash),
        )

    # --- Holders -----------------------------------------------------------------------------------------------

    def held(self, pick: int) -> tuple[Address, Address]:
        """A delegation with shares, seldom anything."""
        found = [pair for pair in self.model.delegators() if self.model.delegation(*pair).shares]
        if pick < 100 or not found:
            return EVERYBODY[pick % len(EVERYBODY)], OPERATORS[pick % len(OPERATORS)]
        return found[pick % len(found)]

    def part_of(self, holder: Address, operator: Address, pick: int, part: int) -> int:
        """Of the shares that may move, or of all, which the contract may have to refuse; at least 2."""
        held = self.model.delegation(holder, operator)
        return max((held.shares if pick % 4 == 0 else held.free_shares) * part // 10_000, 2)

    @rule(holder=everybody, operator=operators, amount=amounts)
    def delegate(self, holder: Address, operator: Address, amount: int) -> None:
        call = self.both(
            holder,
            "delegate",
            (operator,),
            lambda: self.model.delegate(holder, amount, operator, timestamp=self.now),
            value=amount,
        )
        if call.succeeded:
            self.staked[holder] += amount

    @rule(pick=picks, part=parts, more=st.integers(-2, 2))
    def undelegate(self, pick: int, part: int, more: int) -> None:
        holder, operator = self.held(pick)
        self.leave(holder, operator, self.part_of(holder, operator, pick, part) + more)

    def leave(self, holder: Address, operator: Address, shares: int) -> None:
        self.both(
            holder,
            "undelegate",
            (operator, shares),
            lambda: self.model.undelegate(holder, operator, shares, timestamp=self.now),
        )

    @rule(pick=picks, onto=operators, part=parts, more=st.integers(-2, 2))
    def redelegate(self, pick: int, onto: Address, part: int, more: int) -> None:
        holder, source = self.held(pick)
        shares = self.part_of(holder, source, pick, part) + more
        self.both(
            holder,
            "redelegate",
            (source, onto, shares),
            lambda: self.model.redelegate(holder, source, onto, shares, timestamp=self.now),
        )

    @rule(pick=picks, waits=st.booleans())
    def withdraw(self, pick: int, *, waits: bool) -> None:
        entries = [(holder, index) for holder in EVERYBODY for index, _ in enumerate(self.model.unbondings(holder))]
        holder, index = entries[pick % len(entries)] if entries else (EVERYBODY[pick % len(EVERYBODY)], pick % 3)
        self.world.advance(0, PARAMETERS.unbonding_ms // 1000 * waits)
        call = self.both(holder, "withdraw", (index,), lambda: self.model.withdraw(holder, index, timestamp=self.now))
        if call.succeeded:
            self.withdrawn[holder] += call.values[0]

    @rule(pick=picks)
    def claim(self, pick: int) -> None:
        holder, operator = self.held(pick)
        self.both(holder, "claim", (operator,), lambda: self.model.claim(holder, operator, timestamp=self.now))

    @rule(holder=everybody, operator=operators)
    def poke(self, holder: Address, operator: Address) -> None:
        self.both(HOLDERS[0], "poke", (holder, operator), lambda: self.model.poke(holder, operator, timestamp=self.now))

    @rule(pick=picks, onto=operators, leaves=st.booleans(), rare=st.integers(0, 3))
    def move_away_from_a_slash(self, pick: int, onto: Address, rare: int, *, leaves: bool) -> None:
        """By chance alone, a slash would rarely meet stake that moved or left."""
        holder, source = self.held(pick)
        self.redelegate(pick, onto, 5_000, 0)
        if leaves:
            self.leave(holder, source, self.model.delegation(holder, source).free_shares // 3)
        else:
            # Both refused, if the first move was not.
            self.redelegate(pick, onto, 5_000, 0)
            self.leave(holder, onto, self.model.delegation(holder, onto).shares)
        self.close_window(source, 100)
        self.double_sign(source, 100, 0, rare)

    # --- What always holds -------------------------------------------------------------------------------------

    @invariant()
    def contract_and_model_are_equal(self) -> None:
        world, model = self.world, self.model
        totals = model.totals
        assert world.view("totals") == (
            totals.bonded,
            totals.unbonding,
            totals.owed,
            totals.minted,
            totals.burned,
            totals.supply,
            totals.rate,
            totals.active_tokens,
            totals.epoch,
        )
        assert world.view("pending_burn") == totals.to_burn
        assert world.balance() == totals.balance
        assert world.view("jailed_this_epoch") == totals.jailed_this_epoch
        assert world.view("set_record", totals.epoch) == model.set_record(totals.epoch)
        members, powers = world.view("members")
        assert dict(zip(members, powers, strict=True)) == model.voting_set()
        assert world.view("operators") == model.registered()
        assert [tuple(candidate.values()) for candidate in world.view("candidates")] == [
            (entry.operator, entry.voting_key, entry.ml_dsa_key_hash, entry.tokens_wei) for entry in model.candidates()
        ]
        for operator in model.operators():
            self.validators_are_equal(operator)
        for holder, operator in model.delegators():
            if operator in model.operators():
                self.delegations_are_equal(holder, operator)
        for holder in self.holders:
            assert [tuple(entry.values()) for entry in world.view("unbondings", holder)] == [
                (
                    view.entry.operator,
                    view.entry.amount,
                    view.value_now,
                    view.entry.matures_at,
                    view.entry.last_epoch,
                )
                for view in model.unbondings(holder)
            ]

    def validators_are_equal(self, operator: Address) -> None:
        found, expected = self.world.view("validator", operator), self.model.settled_validator(operator)
        maintenance = expected.maintenance
        assert found == found | {
            "voting_key": expected.voting_key,
            "checkpoint_key_hash": expected.checkpoint_key_hash,
            "tokens": expected.tokens,
            "shares": expected.shares,
            "commission_bps": expected.commission_bps,
            "commission_wei": expected.commission,
            "active": expected.active,
            "jailed": expected.jailed,
            "tombstoned": expected.tombstoned,
            "jailed_until": expected.jailed_until,
            "missed": expected.missed,
            "power": self.model.voting_set().get(operator, 0),
            "maintenance_from": maintenance.first if maintenance else 0,
            "maintenance_until": maintenance.first + maintenance.blocks if maintenance else 0,
            "slash_count": len(expected.slashes),
        }
        held = expected.freeze
        assert self.world.view("is_frozen", operator) == (held is not None)
        assert self.world.view("freeze_of", operator) == (
            (held.power, held.epoch, held.evidence_hash) if held else (0, 0, bytes(32))
        )
        for epoch in range(self.model.totals.epoch + 1):
            assert self.world.view("is_acquitted", operator, epoch) == (epoch in expected.acquitted)
        for index, slash in enumerate(expected.slashes):
            epoch, bps, time_s, kind, cut = self.world.view("slash_record", operator, index)
            assert (epoch, bps, time_s, KINDS[kind], cut) == (
                slash.epoch,
                slash.bps,
                slash.time_s,
                slash.kind,
                slash.cut_wei,
            )

    def delegations_are_equal(self, holder: Address, operator: Address) -> None:
        shares, worth, pending, liability = self.world.view("delegation", holder, operator)
        expected = self.model.delegation(holder, operator)
        assert shares == expected.shares
        assert worth == self.model.delegation_value(holder, operator)
        assert pending == self.model.pending(holder, operator)
        owed = expected.liability
        assert tuple(liability.values()) == (
            (owed.source, owed.shares, owed.last_epoch, owed.matures_at, owed.seen) if owed else (bytes(20), 0, 0, 0, 0)
        )

    @invariant()
    def books_balance(self) -> None:
        """Of the model, which the contract equals; balances are the chain's own."""
        world, model, totals = self.world, self.model, self.model.totals
        assert world.balance() == totals.bonded + totals.unbonding + totals.owed + totals.to_burn
        validators = [model.settled_validator(operator) for operator in model.operators()]
        assert sum(entry.tokens for entry in validators) == totals.bonded
        assert all(entry.tokens <= entry.shares for entry in validators), "a share is never worth more than 1 wei"
        assert totals.active_tokens == sum(entry.tokens for entry in validators if entry.active)
        entries = [view.entry for holder in self.holders for view in model.unbondings(holder)]
        assert sum(entry.amount for entry in entries) == totals.unbonding
        pairs = list(model.delegators())
        assert sum(model.delegation(*pair).shares for pair in pairs) == sum(entry.shares for entry in validators)
        assert sum(model.delegation_value(*pair) for pair in pairs) <= totals.bonded
        claimable = sum(model.pending(*pair) for pair in pairs) + sum(entry.commission for entry in validators)
        assert claimable <= totals.owed
        accounts = sum(world.balance(holder) for holder in [*self.holders, PAYER])
        assert accounts + world.balance() == totals.supply

    @invariant()
    def nobody_takes_out_more_stake_than_is_theirs(self) -> None:
        """But for the wei by which others' amounts were rounded down."""
        for holder in EVERYBODY:
            inside = sum(self.model.delegation_value(holder, operator) for operator in self.model.operators())
            inside += sum(view.value_now for view in self.model.unbondings(holder))
            assert self.withdrawn[holder] + inside <= self.staked[holder] + 2 * self.roundings


StakingMachine.TestCase.settings = settings(max_examples=20, stateful_step_count=40, deadline=None)
TestStakingMachine = StakingMachine.TestCase


class Walk(StakingMachine):
    """The same machine, driven by a seed alone: longer than hypothesis would, and with a use for most of its steps."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.chance = Random(seed)
        self.events: Counter[str] = Counter()

    def both(self, *arguments: Any, **options: Any) -> Call:
        call = super().both(*arguments, **options)
        self.events.update(name for name, _ in call.events)
        return call

    def step(self) -> None:
        chance, pick = self.chance, self.chance.randrange(1_000)
        operator, holder = chance.choice(OPERATORS), chance.choice(EVERYBODY)
        part = chance.choice([chance.randrange(10_001), 10_000, 3_000])
        match chance.randrange(22):
            case 0 | 1 | 2 | 3 | 4:
                elapsed, fees = chance.choice([0, 1, 2, 2, 3, 20, 61]), chance.randrange(10**16)
                bitmap, late = chance.randrange(32), chance.randrange(1, 8)
                jump = chance.random() < 0.2
                self.block(operator, chance.randrange(101), fees, elapsed, bitmap, late, to_next_epoch=jump)
            case 5:
                self.elect(4, chance.randrange(2))
            case 6:
                self.absence(chance.sample(OPERATORS, 3))
                self.close_window(operator, chance.randrange(1, 120))
            case 7 | 8 | 9:
                self.run_a_validator(
                    operator, 40 * COIN, chance.randrange(10_001), chance.randrange(7), chance.randrange(5), pick % 3
                )
            case 10:
                self.govern(
                    chance.choice(
                        [(6, 777), (10, 0), (13, 100), (13, 3_000), (14, 5_000), (15, 0), (15, 9_999), (12, 10_000)]
                    )
                )
            case 11 | 12:
                self.delegate(holder, operator, chance.randrange(1, 60 * COIN))
            case 13:
                self.undelegate(pick, part, chance.randrange(-2, 3))
            case 14:
                self.redelegate(pick, operator, part, 0)
            case 15 | 16:
                self.withdraw(pick, waits=chance.random() < 0.5)
            case 17:
                self.claim(pick)
            case 18:
                self.poke(holder, operator)
            case 19:
                self.freeze(operator, chance.randrange(1, 120), chance.randrange(2))
            case 20:
                self.judge(operator, chance.randrange(4))
            case _:
                self.move_away_from_a_slash(pick, operator, chance.randrange(20), leaves=chance.random() < 0.5)


@pytest.mark.parametrize("seed", range(3))
def test_contract_and_model_walk_together(seed: int) -> None:
    walk = Walk(seed)
    walk.genesis()
    for _ in range(250):
        walk.step()
        walk.contract_and_model_are_equal()
        walk.books_balance()
        walk.nobody_takes_out_more_stake_than_is_theirs()
    never = ALL_EVENTS - walk.events.keys()
    assert len(never) <= 2, f"a walk that meets no {', '.join(sorted(never))} says little"


class CrowdedWalk(Walk):
    """With a list of validators that is full nearly all the time."""

    crowd = tuple(CROWD)

    def fill(self) -> None:
        """Up to 256, the least of them outside the set; three vote."""
        for number, operator in enumerate(CROWD[: 256 - len(GENESIS)]):
            self.create(operator, COIN * (1 + number % 7), 0)
        assert len(self.model.registered()) == 256

    def step(self) -> None:
        chance = self.chance
        outsider, newcomer = chance.choice(self.model.registered()), chance.choice([*NEWCOMERS, *CROWD[-7:]])
        match chance.randrange(6):
            case 0 | 1:
                self.create(newcomer, COIN * chance.randrange(1, 9), 0)
            case 2:
                self.leave(outsider, outsider, self.model.delegation(outsider, outsider).shares // 2)
                self.displace(outsider)
            case 3:
                self.displace(chance.choice(self.model.operators()))
            case 4:
                self.double_sign(outsider, 1, 0, 0)
                self.displace(outsider)
            case _:
                self.elect(4, chance.randrange(200))
                self.block(outsider, 50, 0, 2, 0, 1, to_next_epoch=True)


@pytest.mark.parametrize("seed", range(2))
def test_contract_and_model_displace_the_same(seed: int) -> None:
    walk = CrowdedWalk(seed)
    walk.genesis()
    walk.fill()
    for _ in range(60):
        walk.step()
        assert walk.world.view("operators") == walk.model.registered()
    walk.contract_and_model_are_equal()
    walk.books_balance()
    assert walk.events["Displaced"] >= 5
