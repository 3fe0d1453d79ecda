"""The signer as a state machine under attack: requests in any order, restarts, crashes, and what else a node does.

A model that knows nothing of the rules (tests.support.signing_ledger) holds everything that ever left the signer and
asks after each answer whether it convicts the key. The history is real, over a disk whose unsynced end a crash may
keep, tear or lose.
"""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from astralink_node.validator import signing_history
from astralink_node.validator.signing_history import RefusedToSign, SigningHistory, create_history
from astralink_node.validator.signing_rules import floor_after_lost_history
from consensus.messages import (
    NIL,
    CheckpointMessage,
    ProposalMessage,
    RevealMessage,
    SignedMessage,
    VoteMessage,
    VoteType,
)
from tests.support.signing_ledger import Ledger, conflict, rivals

KEY = bytes(range(48))
NETWORKS = [b"g" * 32, b"h" * 32]
HASHES = [b"a" * 32, b"b" * 32]
HEIGHTS = st.sampled_from([1, 1, 1, 1, 2, 2, 3])
"""Low ones mostly: a high one is the end of all below it."""
ROUNDS = st.sampled_from([0, 0, 1, 1, 2, 3])
STEPS = 12


class CrashingDisk:
    """Appends reach a cache, which outlives a process and not a power failure: that keeps any first part of it."""

    def __init__(self) -> None:
        self.durable: bytes | None = None
        self.cached = b""
        self.crash_in: int | None = None

    def load(self) -> bytes | None:
        return None if self.durable is None else self.durable + self.cached

    def append(self, data: bytes) -> None:
        self._step()
        self.cached += data

    def sync(self) -> None:
        self._step()
        self.durable, self.cached = self.load(), b""
        self._step()

    def replace(self, data: bytes) -> None:
        self._step()
        self.durable, self.cached = data, b""
        self._step()

    def close(self) -> None:
        pass

    def _step(self) -> None:
        if self.crash_in is not None:
            self.crash_in -= 1
            if self.crash_in < 0:
                self.crash_in = None
                raise Crash


class Crash(Exception):
    """The process ends here."""


@st.composite
def signable(draw: st.DrawFn) -> SignedMessage:
    genesis, height, round_ = draw(st.sampled_from([*NETWORKS[:1] * 3, *NETWORKS])), draw(HEIGHTS), draw(ROUNDS)
    kind = draw(st.sampled_from(["prevote", "prevote", "precommit", "precommit", "proposal", "reveal", "checkpoint"]))
    block_hash = draw(st.sampled_from([*HASHES, NIL]))
    valid_round = draw(st.integers(-1, round_ - 1))
    match kind:
        case "prevote":
            rests_on = -1 if block_hash == NIL else valid_round
            return VoteMessage(genesis, height, round_, VoteType.PREVOTE, block_hash, rests_on)
        case "precommit":
            return VoteMessage(genesis, height, round_, VoteType.PRECOMMIT, block_hash, -1)
        case "proposal":
            return ProposalMessage(genesis, height, round_, HASHES[block_hash == HASHES[1]], valid_round)
        case "reveal":
            return RevealMessage(genesis, height)
        case _:
            return CheckpointMessage(genesis, round_, height, HASHES[block_hash == HASHES[1]], bytes(32))


BURST = st.lists(signable(), min_size=4, max_size=12)
"""Every rule asks for much, so that no run is spent on events without requests."""


class Signing(RuleBasedStateMachine):
    """Two nodes may share the signer: it cannot tell who asks, so neither do the rules here."""

    def __init__(self) -> None:
        super().__init__()
        self.disk = CrashingDisk()
        self.ledger = Ledger()
        self.signatures = 0
        self.is_lost = False
        self.lowest_floors: dict[bytes, int] = {}

    @initialize(floor=st.sampled_from([None, 1, 1, 2]))
    def begin(self, floor: int | None) -> None:
        """A new key, or one whose history was lost and that has its floor on the first network."""
        self.is_lost = floor is not None
        create_history(self.disk, KEY, key_is_new=not self.is_lost)
        self.history = SigningHistory(self.disk, KEY)
        if floor is not None:
            self.set_floor(NETWORKS[0], floor - 1, [])

    @rule(messages=BURST)
    def ask_much(self, messages: list[SignedMessage]) -> None:
        for message in messages:
            self.ask(message)

    def ask(self, message: SignedMessage) -> None:
        try:
            signature = self.history.sign(message, self.make_signature)
        except RefusedToSign:
            return
        assert message.height >= self.lowest_floors.get(message.genesis_hash, 5 if self.is_lost else 1)
        self.ledger.add(message, signature)

    @rule(messages=BURST, data=st.data())
    def ask_again_with_an_older_chain_data_folder(self, messages: list[SignedMessage], data: st.DataObject) -> None:
        """A node whose own files were put back asks again for what it once got, and for rivals of it."""
        self.ask_much(messages)
        for message in list(self.ledger.released):
            self.ask(message)
            for rival in data.draw(st.permutations(list(rivals(message, HASHES)))):
                self.ask(rival)

    @rule(messages=BURST)
    def restart(self, messages: list[SignedMessage]) -> None:
        self.history = SigningHistory(self.disk, KEY)
        self.ask_much(messages)

    @rule(messages=BURST, crash_in=st.integers(0, 12), kept=st.integers(0, 200), power=st.booleans())
    def crash_while_asked(self, messages: list[SignedMessage], crash_in: int, kept: int, power: bool) -> None:
        """And once more: what the crash left is the first thing that is asked for."""
        self.disk.crash_in = crash_in
        for message in messages:
            try:
                self.ask(message)
            except Crash:
                self.come_back(kept, power=power)
                self.ask(message)
                self.come_back(kept, power=True)
                for rival in rivals(message, HASHES):
                    self.ask(rival)
        self.disk.crash_in = None

    @rule(messages=BURST, crash_in=st.integers(0, 1), kept=st.integers(0, 200), power=st.booleans())
    def crash_while_starting(self, messages: list[SignedMessage], crash_in: int, kept: int, power: bool) -> None:
        self.disk.crash_in = crash_in
        try:
            self.history = SigningHistory(self.disk, KEY)
        except Crash:
            self.come_back(kept, power=power)
        self.disk.crash_in = None
        self.ask_much(messages)

    @rule(genesis=st.sampled_from(NETWORKS), head=st.integers(0, 2), messages=BURST)
    def set_floor(self, genesis: bytes, head: int, messages: list[SignedMessage]) -> None:
        floor = floor_after_lost_history(head, alone=True)
        self.history.set_floor(genesis, floor)
        self.lowest_floors.setdefault(genesis, floor if self.is_lost else 1)
        self.ask_much(messages)

    @rule(messages=BURST)
    def rewrite_at_every_record(self, messages: list[SignedMessage]) -> None:
        for message in messages:
            self.history._log_bytes = 2 * self.history._compacted_bytes + signing_history._COMPACT_AFTER_BYTES
            self.ask(message)

    def come_back(self, kept: int, *, power: bool) -> None:
        if power:
            self.disk.cached = self.disk.cached[:kept]
        self.history = SigningHistory(self.disk, KEY)

    def make_signature(self, sign_bytes: bytes) -> bytes:
        """Never twice the same: only the history makes repeated signatures equal."""
        self.signatures += 1
        return self.signatures.to_bytes(96, "big")

    @invariant()
    def no_vote_that_left_is_foreign(self) -> None:
        for message in self.ledger.released:
            if isinstance(message, ProposalMessage | VoteMessage):
                assert not self.history.is_foreign(message)


TestSigning = Signing.TestCase
TestSigning.settings = settings(stateful_step_count=STEPS)


def test_the_models_idea_of_evidence_sees_both_kinds_in_any_order() -> None:
    def prevote(round_: int, block_hash: bytes, valid_round: int) -> VoteMessage:
        return VoteMessage(NETWORKS[0], 1, round_, VoteType.PREVOTE, block_hash, valid_round)

    def precommit(round_: int, block_hash: bytes) -> VoteMessage:
        return VoteMessage(NETWORKS[0], 1, round_, VoteType.PRECOMMIT, block_hash, -1)

    for one, other, found in [
        (prevote(2, HASHES[0], -1), prevote(2, HASHES[0], 1), "E1"),
        (prevote(2, HASHES[0], -1), prevote(2, NIL, -1), "E1"),
        (precommit(2, HASHES[0]), precommit(2, NIL), "E1"),
        (precommit(1, HASHES[0]), prevote(2, HASHES[0], 0), "E2"),
        (precommit(1, HASHES[0]), prevote(2, HASHES[1], 1), None),
        (precommit(1, NIL), prevote(2, HASHES[1], -1), None),
        (precommit(1, HASHES[0]), prevote(2, NIL, -1), None),
        (precommit(2, HASHES[0]), prevote(1, HASHES[1], -1), None),
    ]:
        assert conflict(one, other) == conflict(other, one) == found
