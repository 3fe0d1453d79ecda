"""What a simulated run consists of, as plain data: the same description gives the same run, event by event.

`random_scenario` draws one from a seed; JSON carries one to another machine. What goes wrong is in `Outcome`.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from random import Random
from typing import Any

from consensus.params import ConsensusParams
from tests.simulation.network import Links, Partition

DEFAULT = "default"
HASTY = "hasty"
PACES = {
    DEFAULT: ConsensusParams(),
    HASTY: ConsensusParams(
        propose_timeout_ms=700,
        propose_timeout_delta_ms=100,
        prevote_timeout_ms=150,
        prevote_timeout_delta_ms=100,
        precommit_timeout_ms=150,
        precommit_timeout_delta_ms=100,
    ),
}
"""Timeouts that are shorter than what a network needs make rounds fail, and only growing them makes one succeed."""

RESTART = "restart"
WIPE = "wipe"
TEAR = "tear"
CRASHES = (RESTART, WIPE, TEAR)
"""What happens at the end of a pause: it goes on with what its disk holds; with its chain's data wiped; or it stops at
one of its next writes, syncs and signatures instead of at once."""

ACTORS = (
    "silent",
    "absentee",
    "equivocator",
    "amnesiac",
    "outdated",
    "conflicting proposer",
    "forger",
    "twins",
    "lock hider",
)
"""What random scenarios are made of; "face" is for forks only, "splitter" for tests of liveness."""


FORK_HEIGHTS = 5
NEVER_MS = 10_000_000
"""Later than any run lasts."""


@dataclass(frozen=True, slots=True)
class Crash:
    validator: int
    at_ms: int
    down_ms: int
    kind: str = RESTART
    points: int = 0
    """For a TEAR: the power fails at the so many-th point from `at_ms` on."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """Times are milliseconds since genesis."""

    seed: int
    powers: tuple[int, ...]
    heights: int
    byzantine: dict[int, str] = field(default_factory=dict)
    """Index -> actor."""
    links: Links = field(default_factory=Links)
    crashes: tuple[Crash, ...] = ()
    late: dict[int, int] = field(default_factory=dict)
    """Index -> when it starts for the first time."""
    skews_ms: tuple[int, ...] = ()
    """Of each clock; empty for none."""
    build_ms: int = 0
    check_ms: int = 0
    pace: str = DEFAULT
    """Of the timeouts: a key of `PACES`."""
    relays: bool = False
    """Whether honest validators pass on what they hear, as gossip does; else only what they repeat."""
    sides: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())
    """The honest validators of either side, for twins and faces that fork; drawn from the seed when empty."""

    @property
    def params(self) -> ConsensusParams:
        return PACES[self.pace]

    @property
    def correct(self) -> list[int]:
        return [index for index in range(len(self.powers)) if index not in self.byzantine]

    def power_of(self, indices: Sequence[int]) -> int:
        return sum(self.powers[index] for index in indices)

    @property
    def is_tolerable(self) -> bool:
        """Less than a third of the power is byzantine."""
        return 3 * self.power_of(list(self.byzantine)) < sum(self.powers)

    @property
    def is_live(self) -> bool:
        """Also counting those that were wiped: at the height of the wipe they may be bound by locks that they lost."""
        wiped = {crash.validator for crash in self.crashes if crash.kind == WIPE}
        return 3 * self.power_of(sorted({*self.byzantine, *wiped})) < sum(self.powers)

    @property
    def calm_from_ms(self) -> int:
        """From when on nothing but the byzantine validators disturbs: stabilised, all up."""
        ends = [crash.at_ms + crash.down_ms for crash in self.crashes]
        return max([self.links.stable_from_ms, *ends, *self.late.values()])


def encode_scenario(scenario: Scenario) -> str:
    return json.dumps(asdict(scenario))


def decode_scenario(text: str) -> Scenario:
    """The inverse of `encode_scenario`."""
    fields: dict[str, Any] = json.loads(text)
    links = fields["links"]
    partitions = tuple(
        Partition(one["start_ms"], one["end_ms"], tuple(map(tuple, one["groups"]))) for one in links["partitions"]
    )
    return Scenario(
        **{
            **fields,
            "powers": tuple(fields["powers"]),
            "byzantine": {int(index): actor for index, actor in fields["byzantine"].items()},
            "links": Links(**{**links, "partitions": partitions}),
            "crashes": tuple(Crash(**crash) for crash in fields["crashes"]),
            "late": {int(index): at_ms for index, at_ms in fields["late"].items()},
            "skews_ms": tuple(fields["skews_ms"]),
            "sides": tuple(map(tuple, fields["sides"])),
        }
    )


def random_scenario(seed: int, count: int, heights: int) -> Scenario:
    """`count` validators, less than a third of the power byzantine, and every kind of fault in some of the seeds."""
    chance = Random(f"scenario {seed} {count}")
    pace = chance.choice((DEFAULT, HASTY))
    powers = _random_powers(chance, count)
    byzantine = _random_byzantine(chance, powers)
    stable_from_ms = chance.choice((0, 3_000, 15_000, 60_000, 180_000))
    correct = [index for index in range(count) if index not in byzantine]
    is_rough = stable_from_ms > 0
    links = Links(
        stable_from_ms=stable_from_ms,
        stable_delay_ms=chance.choice((5, 50, 300)),
        unstable_delay_ms=chance.choice((50, 500, 4_000, 10_000)),
        loss=chance.choice((0.0, 0.05, 0.3, 0.6)) if is_rough else 0.0,
        deafness=chance.choice((0.0, 0.0, 0.3, 0.6)) if is_rough else 0.0,
        duplication=chance.choice((0.0, 0.1)) if is_rough else 0.0,
        partitions=_random_partitions(chance, count, stable_from_ms) if is_rough else (),
    )
    return Scenario(
        seed=seed,
        powers=powers,
        heights=heights,
        byzantine=byzantine,
        links=links,
        crashes=_random_crashes(chance, correct, stable_from_ms) if is_rough else (),
        late={chance.choice(correct): chance.randrange(1, stable_from_ms)}
        if is_rough and chance.random() < 0.2
        else {},
        skews_ms=_random_skews(chance, count, PACES[pace].precision_ms),
        build_ms=chance.choice((0, 20, 200, 1_000)),
        check_ms=chance.choice((0, 20, 100, 300)),
        pace=pace,
        relays=chance.random() < 0.2,
    )


def fork_scenario(seed: int, count: int, actor: str) -> Scenario:
    """A third or more, up to two thirds, is byzantine and stands between two honest sides that do not hear each other.

    With "twins" it votes twice in a round; with "face" it never does, and only forgets what it was locked on.
    """
    chance = Random(f"fork {seed} {count}")
    members = list(range(count))
    chance.shuffle(members)
    liars = chance.choice([few for few in range(2, count - 1) if _can_fork(count, few)])
    byzantine, correct = sorted(members[:liars]), members[liars:]
    half = len(correct) // 2
    sides = (tuple(sorted(correct[:half])), tuple(sorted(correct[half:])))
    groups = ((*sides[0], *byzantine), (*sides[1], *(count + index for index in byzantine)))
    return Scenario(
        seed=seed,
        powers=(1,) * count,
        heights=FORK_HEIGHTS,
        byzantine=dict.fromkeys(byzantine, actor),
        links=Links(NEVER_MS, unstable_delay_ms=50, partitions=(Partition(0, NEVER_MS, groups),)),
        sides=sides,
    )


def _can_fork(count: int, liars: int) -> bool:
    """Either honest half is a quorum with the liars, who are at most two thirds."""
    smaller = (count - liars) // 2
    return smaller >= 1 and 3 * (smaller + liars) > 2 * count and 3 * liars <= 2 * count


def _random_powers(chance: Random, count: int) -> tuple[int, ...]:
    if chance.random() < 0.5:
        return (1,) * count
    return tuple(chance.choice((1, 2, 5, 10, 100)) for _ in range(count))


def _random_byzantine(chance: Random, powers: Sequence[int]) -> dict[int, str]:
    """As many as fit below a third of the power, in random order; sometimes fewer."""
    found: dict[int, str] = {}
    most = chance.randrange(len(powers))
    together = chance.choice(ACTORS) if chance.random() < 0.3 else None
    for index in chance.sample(range(len(powers)), len(powers)):
        power = sum(powers[other] for other in found) + powers[index]
        if len(found) < most and 3 * power < sum(powers):
            found[index] = together or chance.choice(ACTORS)
    return found


def _random_partitions(chance: Random, count: int, before_ms: int) -> tuple[Partition, ...]:
    partitions = []
    for _ in range(chance.randrange(3)):
        start_ms, end_ms = sorted((chance.randrange(before_ms), chance.randrange(before_ms)))
        members = list(range(count))
        chance.shuffle(members)
        cut = chance.randrange(1, count)
        partitions.append(Partition(start_ms, end_ms, (tuple(members[:cut]), tuple(members[cut:]))))
    return tuple(partitions)


def _random_crashes(chance: Random, correct: Sequence[int], before_ms: int) -> tuple[Crash, ...]:
    crashes = []
    for _ in range(chance.randrange(5)):
        at_ms = chance.randrange(before_ms)
        down_ms = chance.randrange(1, 1 + before_ms - at_ms)
        kind = chance.choice((RESTART, RESTART, TEAR, TEAR, TEAR, WIPE))
        crashes.append(Crash(chance.choice(correct), at_ms, down_ms, kind, chance.randrange(1, 40)))
    if chance.random() < 0.2:  # all at once
        at_ms = chance.randrange(before_ms)
        crashes += [Crash(index, at_ms, 1 + chance.randrange(500)) for index in correct]
    return tuple(crashes)


def _random_skews(chance: Random, count: int, precision_ms: int) -> tuple[int, ...]:
    if chance.random() < 0.3:
        return ()
    return tuple(chance.randrange(precision_ms + 1) - precision_ms // 2 for _ in range(count))
