"""The signer as a state machine under attack: requests in any order, restarts, crashes, and what else a node does.

A model of its own, which knows nothing of steps, floors or watermarks, holds everything that ever left the signer,
per network, and asks after each answer whether it convicts the key: two different sign bytes for one slot (evidence
E1), or a non-nil precommit with a later non-nil prevote that rests on an older round (E2), in whatever order they
left. The history is real, over a disk whose unsynced end a crash may keep, tear or lose.
"""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

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
    decode_message,
    encode_message,
)

KEY = bytes(range(48))
NETWORKS = [b"g" * 32, b"h" * 32]
HASHES = [b"a" * 32, b"b" * 32]
HEIGHTS = st.integers(1, 4)
ROUNDS = st.integers(0, 4)


class Ledger:
    """All that left the signer, as bytes; convicts by the two definitions of evidence alone."""

    def __init__(self) -> None:
        self.released: dict[bytes, bytes] = {}

    def add(self, message: SignedMessage, signature: bytes) -> None:
        sign_bytes = encode_message(message)
        for other in self.released:
            complaint = conflict(decode_message(other), message)
            assert complaint is None, f"{complaint}: {decode_message(other)} and {message}"
        # A second signature over the same bytes would be harmless in BLS; the history promises the very same one.
        assert self.released.setdefault(sign_bytes, signature) == signature


def conflict(one: SignedMessage, other: SignedMessage) -> str | None:
    """Whether a pair is evidence. Symmetric: order of release says nothing."""
    if one == other or one.genesis_hash != other.genesis_hash:
        return None
    match one, other:
        case ProposalMessage(), ProposalMessage():
            return "E1" if (one.height, one.round_) == (other.height, other.round_) else None
        case VoteMessage(), VoteMessage() if one.vote_type == other.vote_type:
            return "E1" if (one.height, one.round_) == (other.height, other.round_) else None
        case VoteMessage(), VoteMessage():
            precommit, prevote = (one, other) if one.vote_type is VoteType.PRECOMMIT else (other, one)
            is_amnesia = (
                precommit.height == prevote.height
                and precommit.block_hash != NIL
                and prevote.block_hash != NIL
                and prevote.round_ > precommit.round_
                and prevote.valid_round < precommit.round_
            )
            return "E2" if is_amnesia else None
        case RevealMessage(), RevealMessage():
            return None  # one value a height: equal heights are equal messages
        case CheckpointMessage(), CheckpointMessage():
            return "two checkpoints of an epoch" if one.epoch == other.epoch else None
        case _:
            return None


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
    genesis, height, round_ = draw(st.sampled_from(NETWORKS)), draw(HEIGHTS), draw(ROUNDS)
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


class Signing(RuleBasedStateMachine):
    """Two nodes may share the signer: it cannot tell who asks, so neither do the rules here."""

    def __init__(self) -> None:
        super().__init__()
        self.disk = CrashingDisk()
        self.ledger = Ledger()
        self.signatures = 0

    @initialize(key_is_new=st.booleans())
    def begin(self, key_is_new: bool) -> None:
        create_history(self.disk, KEY, key_is_new=key_is_new)
        self.is_lost = not key_is_new
        self.history = SigningHistory(self.disk, KEY)

    @rule(message=signable())
    def ask(self, message: SignedMessage) -> None:
        try:
            signature = self.history.sign(message, self.make_signature)
        except RefusedToSign:
            return
        self.ledger.add(message, signature)

    @precondition(lambda self: self.ledger.released)
    @rule(data=st.data())
    def replay_from_a_restored_chain_data_folder(self, data: st.DataObject) -> None:
        """The node's own files are of an older day: it asks again for what it once got, and for rivals of it."""
        known = data.draw(st.sampled_from(sorted(self.ledger.released)))
        message = decode_message(known)
        self.ask(message)
        for rival in rivals(message):
            self.ask(rival)

    @rule()
    def restart(self) -> None:
        self.history = SigningHistory(self.disk, KEY)

    @rule(message=signable(), crash_in=st.integers(0, 3), kept=st.integers(0, 200), power=st.booleans())
    def crash_while_asked(self, message: SignedMessage, crash_in: int, kept: int, power: bool) -> None:
        self.disk.crash_in = crash_in
        try:
            self.ask(message)
        except Crash:
            self.come_back(kept, power=power)
        self.disk.crash_in = None

    @rule(crash_in=st.integers(0, 1), kept=st.integers(0, 200), power=st.booleans())
    def crash_while_starting(self, crash_in: int, kept: int, power: bool) -> None:
        self.disk.crash_in = crash_in
        try:
            self.history = SigningHistory(self.disk, KEY)
        except Crash:
            self.come_back(kept, power=power)
        self.disk.crash_in = None

    @rule(genesis=st.sampled_from(NETWORKS), head=HEIGHTS)
    def set_floor(self, genesis: bytes, head: int) -> None:
        self.history.set_floor(genesis, floor_after_lost_history(head, alone=False))

    @rule()
    def rewrite_soon(self) -> None:
        self.history._log_bytes = 2 * self.history._compacted_bytes + signing_history._COMPACT_AFTER_BYTES

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
        for sign_bytes in self.ledger.released:
            message = decode_message(sign_bytes)
            if isinstance(message, ProposalMessage | VoteMessage):
                assert not self.history.is_foreign(message)


def rivals(message: SignedMessage) -> Iterator[SignedMessage]:
    """What an amnesiac or a double signer would ask for beside `message`."""
    if not isinstance(message, VoteMessage):
        return
    for block_hash in (*HASHES, NIL):
        yield VoteMessage(message.genesis_hash, message.height, message.round_, message.vote_type, block_hash, -1)
    for round_ in (message.round_ + 1, max(0, message.round_ - 1)):
        for valid_round in {-1, round_ - 1}:
            yield VoteMessage(message.genesis_hash, message.height, round_, VoteType.PREVOTE, HASHES[0], valid_round)
        yield VoteMessage(message.genesis_hash, message.height, round_, VoteType.PRECOMMIT, HASHES[1], -1)


TestSigning = Signing.TestCase
TestSigning.settings = settings(stateful_step_count=40)


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
