"""Whatever is asked, in whatever order, across restarts: what was signed convicts nobody."""

from hypothesis import given
from hypothesis import strategies as st

from astralink_node.validator import signing_history
from astralink_node.validator.signing_history import RefusedToSign, SigningHistory, create_history
from consensus.messages import (
    NIL,
    CheckpointMessage,
    ProposalMessage,
    RevealMessage,
    SignedMessage,
    VoteMessage,
    VoteType,
    encode_message,
)

KEY = bytes(48)
HASHES = [NIL, b"a" * 32, b"b" * 32]
heights = st.integers(1, 3)
rounds = st.integers(0, 4)
genesis_hashes = st.sampled_from([b"g" * 32, b"h" * 32])


@st.composite
def votes(draw) -> VoteMessage:
    round_, block_hash = draw(rounds), draw(st.sampled_from(HASHES))
    vote_type = draw(st.sampled_from(list(VoteType)))
    has_valid_round = vote_type is VoteType.PREVOTE and block_hash != NIL
    valid_round = draw(st.integers(-1, round_ - 1)) if has_valid_round else -1
    return VoteMessage(draw(genesis_hashes), draw(heights), round_, vote_type, block_hash, valid_round)


@st.composite
def proposals(draw) -> ProposalMessage:
    round_ = draw(rounds)
    valid_round = draw(st.integers(-1, round_ - 1))
    return ProposalMessage(draw(genesis_hashes), draw(heights), round_, draw(st.sampled_from(HASHES[1:])), valid_round)


reveals = st.builds(RevealMessage, genesis_hashes, heights)
checkpoints = st.builds(
    CheckpointMessage, genesis_hashes, st.integers(0, 3), heights, st.sampled_from(HASHES[1:]), st.just(bytes(32))
)
RESTART = "restart"
requests = st.lists(votes() | votes() | proposals() | reveals | checkpoints | st.just(RESTART), max_size=40)


class MemoryStorage:
    """A disk that never fails."""

    def __init__(self) -> None:
        self.data: bytes | None = None

    def load(self) -> bytes | None:
        return self.data

    def append(self, data: bytes) -> None:
        self.data = (self.data or b"") + data

    def sync(self) -> None:
        pass

    def replace(self, data: bytes) -> None:
        self.data = data

    def close(self) -> None:
        pass


def slot(message: SignedMessage) -> tuple[object, ...]:
    match message:
        case ProposalMessage():
            return ("proposal", message.genesis_hash, message.height, message.round_)
        case VoteMessage():
            return ("vote", message.genesis_hash, message.height, message.round_, message.vote_type)
        case RevealMessage():
            return ("reveal", message.genesis_hash, message.height)
        case CheckpointMessage():
            return ("checkpoint", message.genesis_hash, message.epoch)


def is_amnesia(precommit: SignedMessage, prevote: SignedMessage) -> bool:
    """Evidence E2."""
    return (
        isinstance(precommit, VoteMessage)
        and isinstance(prevote, VoteMessage)
        and (precommit.genesis_hash, precommit.height) == (prevote.genesis_hash, prevote.height)
        and precommit.vote_type is VoteType.PRECOMMIT
        and prevote.vote_type is VoteType.PREVOTE
        and NIL not in (precommit.block_hash, prevote.block_hash)
        and prevote.round_ > precommit.round_
        and prevote.valid_round < precommit.round_
    )


def play(script: list[object], *, compact: bool) -> tuple[list[SignedMessage], SigningHistory]:
    storage = MemoryStorage()
    create_history(storage, KEY, key_is_new=True)
    history = SigningHistory(storage, KEY)
    signed: list[SignedMessage] = []
    signatures: dict[SignedMessage, bytes] = {}
    for request in script:
        if request == RESTART:
            history = SigningHistory(storage, KEY)
            continue
        counter = len(signed).to_bytes(4, "big")
        try:
            signature = history.sign(request, lambda sign_bytes, counter=counter: sign_bytes[:60] + counter)
        except RefusedToSign:
            continue
        finally:
            if compact:
                history._log_bytes = 2 * history._compacted_bytes + signing_history._COMPACT_AFTER_BYTES
        assert signatures.setdefault(request, signature) == signature
        signed.append(request)
    return signed, SigningHistory(storage, KEY)


@given(requests, st.booleans())
def test_no_sequence_of_requests_yields_evidence(script, compact):
    signed, _ = play(script, compact=compact)
    by_slot: dict[tuple[object, ...], bytes] = {}
    for message in signed:
        assert by_slot.setdefault(slot(message), encode_message(message)) == encode_message(message)
    assert not any(is_amnesia(one, other) for one in signed for other in signed)


@given(requests)
def test_compaction_and_restarts_change_no_decision(script):
    plain, history = play([item for item in script if item != RESTART], compact=False)
    compacted, reopened = play(script, compact=True)
    assert plain == compacted
    for genesis_hash in (b"g" * 32, b"h" * 32):
        one, other = history.chain(genesis_hash), reopened.chain(genesis_hash)
        assert (one.height, one.step, one.locked_round) == (other.height, other.step, other.locked_round)
        assert [entry.message for entry in one.signed] == [entry.message for entry in other.signed]


@given(st.lists(votes(), max_size=30))
def test_votes_leave_in_ascending_order(script):
    signed, _ = play(list(script), compact=False)
    last: dict[bytes, tuple[int, int, int]] = {}
    seen: set[SignedMessage] = set()
    for vote in signed:
        assert isinstance(vote, VoteMessage)
        step = (vote.height, vote.round_, int(vote.vote_type))
        if vote not in seen:
            assert step > last.get(vote.genesis_hash, (0, 0, 0))
            last[vote.genesis_hash] = step
        seen.add(vote)
