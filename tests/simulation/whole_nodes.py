"""A network of whole nodes in virtual time: who lives, what links do, and what must hold at the end of any run.

What is judged: no two nodes committed different blocks at one height, and no key contradicted itself, whatever was
killed, cut off or put back. Signatures are taken where they leave the signers, so that what was never delivered
counts as well.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from random import Random

import trio
from trio._core import _run as scheduler
from trio.testing import MockClock

from astralink_node.chain.messages import Candidate
from astralink_node.services.consensus_driver import REPEAT_INTERVAL_MS
from astralink_node.storage.memory import MemoryStore
from consensus.evidence import find_evidence
from consensus.messages import CheckpointMessage, ProposalMessage, SignedMessage, VoteMessage
from consensus.params import ConsensusParams
from consensus.payload import ConsensusPayload, decode_payload
from consensus.validator_set import ValidatorSet
from consensus.votes import SignedVote
from genesis.dev_accounts import DEVNET_ACCOUNTS
from genesis.devnet_terms import DEVNET_BALANCE_WEI, DEVNET_CHAIN_ID
from genesis.presets import new_genesis
from genesis.schema import GenesisAccount
from p2p.memory_transport import MemoryNetwork
from p2p.peer_id import PeerId
from tests.support.chains import BLOCK_INTERVAL_MS, GENESIS_TIMESTAMP, LocalChain, candidate, genesis_validator
from tests.support.memory_nodes import MemoryNode

INTERVAL_MS = 500
"""Between blocks."""
EPOCH_LENGTH = 5
PATIENCE_S = 300.0
"""Virtual time after which a run counts as stuck, where no tighter bound is asked for."""

PARAMS = ConsensusParams()


def genesis_of(stakes_bwt: Sequence[int], epoch_length: int = EPOCH_LENGTH) -> bytes:
    """One validator for each stake."""
    return new_genesis(
        chain_id=DEVNET_CHAIN_ID,
        network_name="test",
        timestamp=GENESIS_TIMESTAMP,
        seed=bytes(32),
        validators=[genesis_validator(number, stake) for number, stake in enumerate(stakes_bwt)],
        alloc={account.address: GenesisAccount(DEVNET_BALANCE_WEI, 0, b"", ()) for account in DEVNET_ACCOUNTS},
        block_interval_ms=BLOCK_INTERVAL_MS,
        epoch_length=epoch_length,
        max_gas_target=15_000_000,
    ).encode()


@cache
def one_transfer(head_height: int) -> tuple[Candidate, ...]:
    """For every block one: the heights are the nonces."""
    return (candidate(0, head_height),)


@dataclass
class Links:
    """What happens to messages on their way; changed while a network runs."""

    groups: tuple[frozenset[PeerId], ...] = ()
    """While there are any, only members of one group hear each other."""
    delay_s: float = 0.0
    slow: dict[PeerId, float] = field(default_factory=dict)
    """Senders whose messages take this long instead."""
    chance: Random | None = None
    """While there is one, links lose, delay and double by it."""
    lost: float = 0.3
    doubled: float = 0.2
    longest_s: float = 2.0

    def __call__(self, sender: PeerId, receiver: PeerId) -> Sequence[float]:
        if self.groups and not any(sender in group and receiver in group for group in self.groups):
            return ()
        if self.chance is None:
            return (self.slow.get(sender, self.delay_s),)
        if self.chance.random() < self.lost:
            return ()
        copies = 2 if self.chance.random() < self.doubled else 1
        return [self.chance.random() * self.longest_s for _ in range(copies)]

    def split(self, *groups: Iterable[MemoryNode]) -> None:
        self.groups = tuple(frozenset(node.peer_id for node in group) for group in groups)

    def heal(self) -> None:
        """Everything arrives, at once."""
        self.groups, self.slow, self.chance, self.delay_s = (), {}, None, 0.0


class WholeNetwork:
    """See the module's description; made by `run_network`."""

    def __init__(self, folder: Path, nursery: trio.Nursery, stakes_bwt: Sequence[int]) -> None:
        self.folder = folder
        self.links = Links()
        self.net = MemoryNetwork(self.links)
        self.genesis = genesis_of(stakes_bwt)
        self.params = PARAMS
        self.nodes = [self.new_node(number) for number in range(len(stakes_bwt))]
        self.others: list[MemoryNode] = []
        """Nodes that run with a key of `nodes`."""
        self._nursery = nursery
        chain = LocalChain(MemoryStore(), genesis=self.genesis)
        self.validator_set: ValidatorSet = chain.execution.context.voting_set
        self.genesis_hash: bytes = chain.execution.context.genesis_hash

    def new_node(self, number: int, name: str = "", **options: object) -> MemoryNode:
        name = name or f"node-{number}"
        folder = self.folder / name
        return MemoryNode(
            number,
            folder,
            self.net,
            self.genesis,
            self.params,
            EPOCH_LENGTH,
            INTERVAL_MS,
            name=name,
            make_transactions=one_transfer,
            **options,
        )

    def index_of(self, node: MemoryNode) -> int:
        """Where it stands in the set."""
        index = self.validator_set.index_of(node.voting_key)
        assert index is not None, "everybody here votes"
        return index

    # --- Lives -------------------------------------------------------------------------------------------------

    def start(self, *nodes: MemoryNode) -> None:
        for node in nodes or self.nodes:
            assert node.ended.is_set(), f"{node.name} lives already"
            node.ended = trio.Event()
            self._nursery.start_soon(node.live)

    async def kill(self, *nodes: MemoryNode) -> None:
        living = [node for node in nodes or self.nodes if not node.ended.is_set()]
        for node in living:
            node.kill()
        for node in living:
            await node.ended.wait()

    async def reach(self, height: int, *nodes: MemoryNode, within_s: float = PATIENCE_S) -> float:
        """Until those nodes (all, if none is named) committed `height`; after how many seconds they did."""
        began_s = trio.current_time()
        with trio.move_on_after(within_s) as scope:
            for node in nodes or self.nodes:
                await node.reach(height)
        assert not scope.cancelled_caught, f"height {height} not reached within {within_s} s: {self.standing()}"
        return trio.current_time() - began_s

    def standing(self) -> str:
        """Where everybody is, for a failure's message."""
        lines = []
        for node in [*self.nodes, *self.others]:
            run = node.driver.run_of_height if node.driver is not None and not node.ended.is_set() else None
            state = "down" if run is None else f"{run.state.rounds}"
            lines.append(f"{node.name}: head {node.height}, {state}")
        return "; ".join(lines)

    @property
    def height(self) -> int:
        return max(node.height for node in self.nodes)

    @property
    def round_(self) -> int:
        """The furthest that any living node is in."""
        runs = [node.driver.run_of_height for node in self.nodes if node.driver is not None and not node.ended.is_set()]
        return max((run.state.rounds.round_ for run in runs if run is not None), default=0)

    @property
    def recovery_s(self) -> float:
        """Bound on everybody's next commit, if all links are good from now on: what is repeated has been said again,
        then one round may fail, and the next one, with everybody in it, does not."""
        return (REPEAT_INTERVAL_MS + sum(round_ms(self.params, self.round_ + more) for more in range(2))) / 1000

    # --- Judging -----------------------------------------------------------------------------------------------

    def blocks(self) -> dict[int, ConsensusPayload]:
        """The chain: height -> payload."""
        found = {}
        for node in self.nodes:
            found.update({height: decode_payload(block.raw_payload) for height, block in node.blocks.items()})
        return dict(sorted(found.items()))

    def votes_of(self, node: MemoryNode) -> list[SignedVote]:
        return [
            SignedVote(
                message.vote_type,
                message.height,
                message.round_,
                message.block_hash,
                message.valid_round,
                self.index_of(node),
                signature,
            )
            for message, signature in node.released.items()
            if isinstance(message, VoteMessage)
        ]

    def check(self, *, guilty: Sequence[int] = ()) -> None:
        """No fork, and no key contradicted itself but those of these numbers, of which copies signed as well."""
        everybody = [*self.nodes, *self.others]
        chain: dict[int, tuple[str, object]] = {}
        for node in everybody:
            for height, block in node.blocks.items():
                whose, first = chain.setdefault(height, (node.name, block))
                assert len(block.raw_transactions) == 1, (
                    f"height {height} carries {len(block.raw_transactions)} transfers"
                )
                assert block == first, f"height {height}: {node.name} and {whose} committed different blocks"
        judged = [node for node in everybody if node.number not in guilty]
        found = find_evidence(vote for node in judged for vote in self.votes_of(node))
        assert not found, f"signatures that contradict each other left: {found}"
        slots: dict[tuple[object, ...], SignedMessage] = {}
        for node in judged:
            for message in node.released:
                match message:
                    case ProposalMessage():
                        slot: tuple[object, ...] = (node.number, "proposal", message.height, message.round_)
                    case CheckpointMessage():
                        slot = (node.number, "checkpoint", message.epoch)
                    case _:
                        continue
                first_message = slots.setdefault(slot, message)
                assert first_message == message, f"{node.name} signed twice: {first_message} and {message}"


def round_ms(params: ConsensusParams, round_: int) -> int:
    """How long a round may last in which everybody is."""
    return params.propose_timeout_at(round_) + params.prevote_timeout_at(round_) + params.precommit_timeout_at(round_)


def run_network(
    folder: Path,
    scenario: Callable[[WholeNetwork], Awaitable[None]],
    *,
    stakes_bwt: Sequence[int] = (32, 32, 32, 32),
    guilty: Sequence[int] = (),
    seed: int = 0,
) -> WholeNetwork:
    """Run it in virtual time, kill everybody, and judge what they did. `seed` decides in which order tasks run."""

    async def main() -> WholeNetwork:
        async with trio.open_nursery() as nursery:
            network = WholeNetwork(folder, nursery, stakes_bwt)
            nursery.start_soon(network.net.run)
            await scenario(network)
            nursery.cancel_scope.cancel()
        return network

    # What trio offers to Hypothesis: tasks that are ready at one time run in an order that chance decides.
    scheduler._ALLOW_DETERMINISTIC_SCHEDULING = True
    scheduler._r = Random(seed)
    network = trio.run(main, clock=MockClock(autojump_threshold=0))
    network.check(guilty=guilty)
    return network
