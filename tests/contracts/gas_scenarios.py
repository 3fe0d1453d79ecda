"""What each function of the staking contracts costs, in a fixed scenario each: `contracts/staking/gas.json`.

`make gas-table` writes the table. Gas is the EVM's alone: without a transaction's own 21,000 and calldata, before
refunds; of system calls all that their 30 million are charged for.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Final

from astralink_node.types import Address
from contracts.places import GOVERNANCE, KEY_PROOFS
from tests.contracts.delegator_crowds import EPOCHS, largest, long_run
from tests.support.staking_worlds import COIN, EPOCH_LENGTH, PARAMETERS, Call, StakingWorld, account, keys

TABLE: Final = Path(__file__).parents[2] / "contracts/staking/gas.json"

A, B, NEW, HOLDER = (account(number) for number in range(1, 5))
UNBONDING_S: Final = PARAMETERS[2] // 1000
MANY: Final = [account(100 + number) for number in range(128)]
OTHERS: Final = [account(300 + number) for number in range(128)]


def holders_world() -> StakingWorld:
    """Two validators, and a holder with stake and rewards at both; ten seconds after genesis."""
    world = StakingWorld([(A, 100 * COIN), (B, 300 * COIN)], rich=[NEW, HOLDER])
    for operator in (A, B):
        _done(world.call(HOLDER, "delegate", operator, value=10 * COIN))
    for height in range(1, 6):
        world.begin_block(A, credited=350, total=400, credits=[(height - 1, 3)] if height > 1 else [])
    return world


def crowd_world(members: int) -> StakingWorld:
    """So many validators of which all vote; one that proposed and was credited before."""
    parameters = list(PARAMETERS)
    parameters[1] = parameters[8] = 128
    world = StakingWorld(
        [(operator, (100 + number) * COIN) for number, operator in enumerate(MANY[:members])],
        parameters=parameters,
        rich=OTHERS,
    )
    for height in range(1, 12):
        world.begin_block(MANY[0], credits=[(height - 1, 2**members - 1)] if height > 1 else [])
    return world


def measure() -> dict[str, int]:
    """Gas by what is measured, each in a world of its own; of a hundred epochs the dearest calls."""
    found = {name: _done(scenario()).gas_used for name, scenario in _scenarios().items()}
    for name, gas in largest(long_run(1_000)).items():
        found[f"{name}, dearest of {EPOCHS} epochs, 1,000 delegators"] = gas
    return dict(sorted(found.items()))


def encode(table: dict[str, int]) -> str:
    return json.dumps(table, indent=1) + "\n"


def _scenarios() -> dict[str, Callable[[], Call]]:
    small: dict[str, Callable[[StakingWorld], Call]] = {
        "create_validator": lambda world: world.create(NEW, commission_bps=500, name="A validator"),
        "delegate, first": lambda world: world.call(NEW, "delegate", A, value=COIN),
        "delegate, more": lambda world: world.call(HOLDER, "delegate", A, value=COIN),
        "undelegate": lambda world: world.call(HOLDER, "undelegate", A, COIN),
        "withdraw": _withdraw,
        "withdraw after a slash": _withdraw_after_slash,
        "redelegate": lambda world: world.call(HOLDER, "redelegate", A, B, COIN),
        "claim": lambda world: world.call(HOLDER, "claim", A),
        "poke with nothing to apply": lambda world: world.call(HOLDER, "poke", HOLDER, A),
        "poke after a slash of the source": _poke,
        "withdraw_commission": _withdraw_commission,
        "set_commission": _set_commission,
        "unjail": _unjail,
        "announce_maintenance": lambda world: world.call(A, "announce_maintenance", 1_000, 10),
        "rotate_voting_key": lambda world: world.call(
            A, "rotate_voting_key", keys(A, 1).voting_point, keys(A, 1).possession
        ),
        "rotate_checkpoint_key": lambda world: world.call(
            A, "rotate_checkpoint_key", keys(A, 1).checkpoint_key, keys(A, 1).checkpoint_possession
        ),
        "KeyProofs.voting_key": lambda world: world.call(
            A, "voting_key", keys(A, 1).voting_point, keys(A, 1).possession, at=KEY_PROOFS
        ),
        "KeyProofs.checkpoint_key": lambda world: world.call(
            A, "checkpoint_key", A, keys(A, 1).checkpoint_key, keys(A, 1).checkpoint_possession, at=KEY_PROOFS
        ),
        "slash_double_sign": lambda world: world.slash(A),
        "freeze": _freeze,
        "judge, guilty": lambda world: _judge(world, guilty=True),
        "judge, not guilty": lambda world: _judge(world, guilty=False),
        "Governance.propose_judgement": _propose_judgement,
        "Governance.propose": lambda world: world.call(A, "propose", 0, COIN, at=GOVERNANCE),
        "Governance.vote": _vote,
        "Governance.execute": _execute,
        "set_parameter": lambda world: world.call(Address(GOVERNANCE), "set_parameter", 0, COIN),
        "view totals": lambda world: world.call(HOLDER, "totals"),
        "view validator": lambda world: world.call(HOLDER, "validator", B),
        "view delegation": lambda world: world.call(HOLDER, "delegation", HOLDER, A),
    }
    found: dict[str, Callable[[], Call]] = {
        name: lambda scenario=scenario: scenario(holders_world()) for name, scenario in small.items()
    }
    for members in (1, 10, 128):
        found[f"begin_block, {members} members"] = lambda members=members: crowd_world(members).begin_block(
            MANY[0], credits=[(11, 2**members - 1), (9, 1)]
        )
    found |= {
        "note_absent, 128 members": lambda: crowd_world(128).system("note_absent", 3, MANY),
        "close_window, 128 members, 2 punished": lambda: crowd_world(128).system(
            "close_window", 19, MANY[:2], [100, 101], MANY
        ),
        "close_window, 128 members, all punished": _close_window_for_all,
        "elect, 128 members, all new": lambda: _elect(_replaced_world()),
        "begin_epoch, 128 members, all new": _begin_epoch_all_new,
        "begin_epoch, 128 members, the same": lambda: crowd_world(128).begin_epoch(),
        "view candidates, 128": lambda: crowd_world(128).call(HOLDER, "candidates"),
        "view members, 128": lambda: crowd_world(128).call(HOLDER, "members"),
        "view missed_of, 128": lambda: crowd_world(128).call(HOLDER, "missed_of", MANY),
    }
    return found


def _done(call: Call) -> Call:
    if not call.succeeded:
        raise AssertionError(f"a scenario was refused: {call.reason}")
    return call


def _withdraw(world: StakingWorld) -> Call:
    _done(world.call(HOLDER, "undelegate", A, COIN))
    world.advance(1, UNBONDING_S)
    return world.call(HOLDER, "withdraw", 0)


def _withdraw_after_slash(world: StakingWorld) -> Call:
    _done(world.call(HOLDER, "undelegate", A, COIN))
    _done(world.slash(A))
    world.advance(1, UNBONDING_S)
    return world.call(HOLDER, "withdraw", 0)


def _poke(world: StakingWorld) -> Call:
    _done(world.call(HOLDER, "redelegate", A, B, COIN))
    _done(world.slash(A))
    return world.call(NEW, "poke", HOLDER, B)


def _set_commission(world: StakingWorld) -> Call:
    world.advance(1, 86_400)
    return world.call(A, "set_commission", 100)


def _withdraw_commission(world: StakingWorld) -> Call:
    _done(_set_commission(world))
    world.begin_block(A)
    return world.call(A, "withdraw_commission")


def _unjail(world: StakingWorld) -> Call:
    _done(world.jail(A))
    world.advance(1, PARAMETERS[7] // 1000)
    return world.call(A, "unjail")


def _freeze(world: StakingWorld) -> Call:
    return world.system("freeze", A, 100, 0, b"\x0e" * 32)


def _judge(world: StakingWorld, *, guilty: bool) -> Call:
    _done(_freeze(world))
    return world.call(Address(GOVERNANCE), "judge", A, guilty)


def _propose_judgement(world: StakingWorld) -> Call:
    _done(_freeze(world))
    return world.call(B, "propose_judgement", A, True, at=GOVERNANCE)


def _vote(world: StakingWorld) -> Call:
    _done(world.call(A, "propose", 0, COIN, at=GOVERNANCE))
    return world.call(B, "vote", 0, at=GOVERNANCE)


def _execute(world: StakingWorld) -> Call:
    _done(_vote(world))
    return world.call(HOLDER, "execute", 0, at=GOVERNANCE)


def _close_window_for_all() -> Call:
    world = crowd_world(128)
    _done(world.system("note_absent", 3, MANY))
    return world.system("close_window", 19, MANY, [100 + number for number in range(128)], MANY)


def _replaced_world() -> StakingWorld:
    """Beside the 128 that vote, 128 others with more stake."""
    world = crowd_world(128)
    for operator in OTHERS:
        _done(world.create(operator, stake=1_000 * COIN))
    return world


def _elect(world: StakingWorld) -> Call:
    return world.elect([(operator, 1_000) for operator in OTHERS])


def _begin_epoch_all_new() -> Call:
    world = _replaced_world()
    _done(_elect(world))
    world.advance(EPOCH_LENGTH)
    world.begin_block(MANY[0])
    return world.begin_epoch()


if __name__ == "__main__":
    TABLE.write_text(encode(measure()))
