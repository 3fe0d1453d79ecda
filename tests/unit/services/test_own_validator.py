"""When a validator may sign: at once with an intact history, else after listening, and from which height."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import trio
from trio.testing import MockClock

from astralink_node.crypto.ml_dsa import Seed
from astralink_node.services.offload import inline
from astralink_node.services.own_validator import DOPPELGANGER_WAIT_MS, OwnKeys, OwnValidator
from astralink_node.types import Address
from astralink_node.validator.history_file import HistoryFile
from astralink_node.validator.keys import keys_of
from astralink_node.validator.local_signer import LocalSigner, RefusedToSign, SignerUnavailable
from astralink_node.validator.signing_history import create_history, history_path, open_history
from consensus.messages import VoteMessage, VoteType
from consensus.validator_set import Validator, ValidatorSet, canonical_order
from tests.support.chains import voting_secret
from tests.support.signed_messages import BLOCK, GENESIS, OTHER_BLOCK

KEYS = keys_of(voting_secret(0), Seed(bytes([1]) * 32), None)
KEY = KEYS.public.voting_key
RECIPIENT = Address(bytes(20))
WAIT_S = DOPPELGANGER_WAIT_MS / 1000


@pytest.fixture
def signer_with(tmp_path: Path) -> Iterator[Callable[[bool], LocalSigner]]:
    """A signer whose history is intact, or new for a key that may have signed before."""
    opened = []

    def make(key_is_new: bool) -> LocalSigner:
        storage = HistoryFile(history_path(tmp_path, KEY))
        create_history(storage, KEY, key_is_new=key_is_new)
        storage.close()
        opened.append(open_history(tmp_path, KEY))
        return LocalSigner(KEYS, opened[-1], GENESIS)

    yield make
    for history in opened:
        history.close()


def run(scenario: Callable[[OwnValidator, MockClock], Awaitable[None]], signer: LocalSigner) -> None:
    clock = MockClock()

    async def main() -> None:
        await scenario(OwnValidator(signer, RECIPIENT, inline), clock)

    trio.run(main, clock=clock)


def precommit(height: int, block_hash: bytes = BLOCK) -> VoteMessage:
    return VoteMessage(GENESIS, height, 0, VoteType.PRECOMMIT, block_hash, -1)


def test_an_intact_history_signs_at_once(signer_with: Callable[[bool], LocalSigner]) -> None:
    signer = signer_with(True)

    async def scenario(own: OwnValidator, clock: MockClock) -> None:
        await own.begin(7, alone=False)
        assert own.is_signing
        assert signer.history_state().floor == 1, "nothing was raised"

    run(scenario, signer)


def test_a_lost_history_of_a_lone_validator_signs_from_the_next_height(
    signer_with: Callable[[bool], LocalSigner],
) -> None:
    signer = signer_with(False)

    async def scenario(own: OwnValidator, clock: MockClock) -> None:
        await own.begin(7, alone=True)
        assert own.is_signing
        assert signer.history_state().floor == 8

    run(scenario, signer)


def test_a_lost_history_among_several_listens_by_the_clock_and_signs_two_heights_above(
    signer_with: Callable[[bool], LocalSigner],
) -> None:
    signer = signer_with(False)

    async def scenario(own: OwnValidator, clock: MockClock) -> None:
        await own.begin(7, alone=False)
        assert not own.is_signing
        clock.jump(WAIT_S - 0.001)
        await own.consider(99, is_caught_up=True)  # however many heights go by
        assert not own.is_signing
        assert signer.history_state().floor is None
        clock.jump(0.001)
        await own.consider(100, is_caught_up=True)
        assert own.is_signing
        assert signer.history_state().floor == 102
        with pytest.raises(RefusedToSign):
            signer.sign_vote(VoteType.PREVOTE, 101, 0, BLOCK, -1)
        assert signer.sign_vote(VoteType.PREVOTE, 102, 0, BLOCK, -1)

    run(scenario, signer)


def test_listening_does_not_end_before_the_chain_is_caught_up(signer_with: Callable[[bool], LocalSigner]) -> None:
    signer = signer_with(False)

    async def scenario(own: OwnValidator, clock: MockClock) -> None:
        await own.begin(7, alone=False)
        clock.jump(10 * WAIT_S)
        await own.consider(8, is_caught_up=False)
        assert not own.is_signing
        await own.consider(9, is_caught_up=True)
        assert signer.history_state().floor == 11

    run(scenario, signer)


def test_genesis_is_no_head_that_anybody_certified(signer_with: Callable[[bool], LocalSigner]) -> None:
    signer = signer_with(False)

    async def scenario(own: OwnValidator, clock: MockClock) -> None:
        await own.begin(0, alone=False)
        clock.jump(WAIT_S)
        await own.consider(0, is_caught_up=True)
        assert not own.is_signing
        await own.consider(1, is_caught_up=True)
        assert signer.history_state().floor == 3

    run(scenario, signer)


def test_a_floor_that_stands_lets_the_next_start_sign_at_once(signer_with: Callable[[bool], LocalSigner]) -> None:
    signer = signer_with(False)
    signer.set_floor(9)

    async def scenario(own: OwnValidator, clock: MockClock) -> None:
        await own.begin(3, alone=False)
        assert own.is_signing
        assert signer.history_state().floor == 9

    run(scenario, signer)


class Moody:
    """A signer whose calls fail while `error` stands."""

    def __init__(self, signer: LocalSigner) -> None:
        self._signer = signer
        self.public = signer.public
        self.history_state = signer.history_state
        self.error: Exception | None = None

    def set_floor(self, height: int) -> None:
        if self.error is not None:
            raise self.error
        self._signer.set_floor(height)

    def is_foreign(self, message: VoteMessage) -> bool:
        if self.error is not None:
            raise self.error
        return self._signer.is_foreign(message)


@pytest.mark.parametrize("error", [SignerUnavailable("no answer"), RefusedToSign("not started with the flag")])
def test_a_signer_that_takes_no_floor_now_is_asked_again_later(
    signer_with: Callable[[bool], LocalSigner], error: Exception
) -> None:
    signer = Moody(signer_with(False))

    async def scenario(own: OwnValidator, clock: MockClock) -> None:
        await own.begin(7, alone=False)
        clock.jump(WAIT_S)
        signer.error = error
        await own.consider(8, is_caught_up=True)
        assert not own.is_signing
        signer.error = None
        await own.consider(9, is_caught_up=True)
        assert own.is_signing
        assert signer.history_state().floor == 11

    run(scenario, signer)  # type: ignore[arg-type]


# --- Doppelgangers ---------------------------------------------------------------------------------------------


def test_a_message_that_the_history_lacks_is_foreign_and_an_own_one_is_not(
    signer_with: Callable[[bool], LocalSigner],
) -> None:
    signer = signer_with(True)

    async def scenario(own: OwnValidator, clock: MockClock) -> None:
        await own.begin(7, alone=False)
        signer.sign_vote(VoteType.PRECOMMIT, 8, 0, BLOCK, -1)
        assert not await own.signed_elsewhere(precommit(8))
        assert await own.signed_elsewhere(precommit(8, OTHER_BLOCK))
        assert not await own.signed_elsewhere(precommit(7)), "forgotten: nobody can tell"

    run(scenario, signer)


def test_old_votes_of_a_lost_history_that_peers_kept_are_no_doppelganger(
    signer_with: Callable[[bool], LocalSigner],
) -> None:
    """Or one peer that kept a vote could keep the validator from ever coming back."""
    signer = signer_with(False)

    async def scenario(own: OwnValidator, clock: MockClock) -> None:
        await own.begin(3, alone=False)
        assert not await own.signed_elsewhere(precommit(4)), "while it catches up"
        await own.consider(8, is_caught_up=False)
        assert not await own.signed_elsewhere(precommit(9))
        await own.consider(10, is_caught_up=True)
        assert not await own.signed_elsewhere(precommit(11)), "it may have voted at the next height before"
        assert await own.signed_elsewhere(precommit(12)), "but not above: that is another node"

    run(scenario, signer)


def test_a_signer_that_cannot_be_asked_accuses_nobody(signer_with: Callable[[bool], LocalSigner]) -> None:
    signer = Moody(signer_with(True))

    async def scenario(own: OwnValidator, clock: MockClock) -> None:
        await own.begin(7, alone=False)
        signer.error = SignerUnavailable("no answer")
        assert not await own.signed_elsewhere(precommit(8))
        signer.error = None
        assert await own.signed_elsewhere(precommit(8))

    run(scenario, signer)  # type: ignore[arg-type]


# --- Several keys --------------------------------------------------------------------------------------------------

OPERATOR = Address(b"\x0a" * 20)


def keys_number(number: int, operator: Address | None = OPERATOR) -> OwnValidator:
    public = keys_of(voting_secret(number), Seed(bytes([number + 1]) * 32), operator).public
    return OwnValidator(cast(LocalSigner, SimpleNamespace(public=public)), RECIPIENT, inline)


def set_with(*numbers: int) -> ValidatorSet:
    """Validator 0 is ours under whatever key stands first; the rest are others'."""
    members = canonical_order(
        Validator(
            keys_number(number).voting_key,
            keys_number(number).signer.public.checkpoint_key_hash,
            1,
            bytes(OPERATOR) if place == 0 else bytes([number]) * 20,
        )
        for place, number in enumerate(numbers)
    )
    return ValidatorSet(members, bytes(128))


def test_the_keys_that_stand_in_the_set_vote_and_the_present_ones_where_none_do() -> None:
    present, following = keys_number(1), keys_number(2)
    own = OwnKeys(present, following)
    assert own.seated(set_with(1, 5)) is present
    assert own.seated(set_with(2, 5)) is following
    assert own.seated(set_with(5)) is present
    assert OwnKeys(None, None).seated(set_with(5)) is None


def test_a_rotation_that_the_node_does_not_know_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    own = OwnKeys(keys_number(1))
    assert own.missing(set_with(1, 5)) is None
    rotated = keys_number(2).voting_key
    assert own.missing(set_with(2, 5)) == rotated
    assert OwnKeys(keys_number(1), keys_number(2)).missing(set_with(2, 5)) is None
    assert OwnKeys(keys_number(1, None)).missing(set_with(2, 5)) is None, "keys that know no operator tell nothing"
    for voters in (set_with(1, 5), set_with(2, 5), set_with(2, 5), set_with(1, 5)):
        own.warn_of_a_missing_one(voters)
    (said,) = caplog.records
    assert said.levelname == "WARNING"
    assert "start the node again" in said.getMessage()
    assert said.__dict__["fields"] == {"key": f"0x{rotated.hex()[:16]}"}
