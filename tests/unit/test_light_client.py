"""The light client on real bytes and signatures: it follows, skips, notices forks, and believes nothing unproven."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from astralink_node.crypto import bls, ml_dsa
from astralink_node.evm.blocks import decode_block, empty_header, encode_header
from astralink_node.light_client import (
    CheckpointStep,
    ForkDetected,
    LightBlock,
    LightBlockRefused,
    LightClient,
    Trusted,
    prove_payload,
    read_light_block,
    trust_by_hash,
    verify_checkpoint_chain,
)
from astralink_node.types import Hash32
from consensus.certificate import Certificate, bitmap_of, decode_certificate, encode_certificate
from consensus.checkpoint import Checkpoint, encode_checkpoint
from consensus.evidence import accused, verify_evidence
from consensus.forged_header import ForgedHeader
from consensus.hashing import keccak256
from consensus.light_verification import next_height_to_try
from consensus.messages import VoteType, signing_root
from consensus.params import ConsensusParams
from consensus.payload import PAYLOAD_VERSION, ConsensusPayload, decode_payload, encode_payload, payload_root
from consensus.validator_set import Validator, ValidatorSet, canonical_order, encode_validator_set
from tests.support.chains import LocalChain

GENESIS = keccak256(b"genesis")
PARAMS = ConsensusParams()
START_MS = 1_790_000_000_000
NOW = START_MS + 3_600_000
PERIOD_MS = PARAMS.unbonding_ms // 2


def secret(number: int) -> bls.SecretKey:
    return bls.SecretKey(bytes(30) + (number + 1).to_bytes(2, "big"))


def seed(number: int) -> ml_dsa.Seed:
    return ml_dsa.Seed(bytes([number + 1]) * 32)


class Voters:
    """A set of equal members with their secrets, in the set's order."""

    def __init__(self, *numbers: int) -> None:
        by_key = {bls.public_key(secret(number)): number for number in numbers}
        members = canonical_order(
            Validator(key, keccak256(ml_dsa.public_key(seed(number))), 10, bytes(20)) for key, number in by_key.items()
        )
        self.set = ValidatorSet(members, bls.aggregate_public_keys_eip2537(list(by_key)))
        self.encoded = encode_validator_set(self.set)
        self.secrets = [secret(by_key[member.voting_key]) for member in members]
        self.seeds = [seed(by_key[member.voting_key]) for member in members]

    def commit(self, height: int, block_hash: bytes, *, round_: int = 0, signers: list[int] | None = None) -> bytes:
        indices = range(len(self.set)) if signers is None else signers
        bitmap = bitmap_of(indices, len(self.set))
        certificate = Certificate(VoteType.PRECOMMIT, height, round_, -1, block_hash, bitmap, bytes(96))
        root = signing_root(certificate.sign_bytes(GENESIS))
        signature = bls.aggregate([bls.sign(self.secrets[index], root) for index in indices])
        return encode_certificate(replace(certificate, signature=signature))

    def checkpoint(self, epoch: int, height: int, next_set: ValidatorSet, signers: list[int]) -> bytes:
        unsigned = Checkpoint(
            epoch, height, keccak256(b"block %d" % height), next_set.hash, bitmap_of(signers, len(self.set)), (), ()
        )
        root = signing_root(unsigned.sign_bytes(GENESIS))
        seeds = [self.seeds[index] for index in signers]
        keys = tuple(ml_dsa.public_key(each) for each in seeds)
        return encode_checkpoint(
            replace(unsigned, keys=keys, signatures=tuple(ml_dsa.sign(each, root) for each in seeds))
        )


FOUR = Voters(0, 1, 2, 3)
LATER = Voters(2, 3, 4, 5)
STRANGERS = Voters(6, 7, 8, 9)


def payload_of(height: int, voting: Voters, following: Voters, time_ms: int) -> ConsensusPayload:
    zero = bytes(32)
    return ConsensusPayload(
        version=PAYLOAD_VERSION,
        genesis_hash=GENESIS,
        height=height,
        time_ms=time_ms,
        build_round=0,
        proposer_index=0,
        priorities_hash=zero,
        reveal=bytes(96),
        parent_certificate=None,
        late_credits=(),
        voting_set_hash=voting.set.hash,
        next_set_hash=following.set.hash,
        evidence=(),
        epoch=0,
        checkpoint=b"",
        checkpoint_hash=zero,
        outbox_root=zero,
    )


def light_block(
    height: int,
    parent_hash: bytes = bytes(32),
    *,
    voting: Voters = FOUR,
    following: Voters | None = None,
    time_ms: int | None = None,
    whole: bool = False,
    state_root: bytes = bytes(32),
    possessions=(),
    **commit,
) -> LightBlock:
    """A block of that height, a second after the one before, certified by `voting`."""
    following = following or voting
    payload = payload_of(height, voting, following, START_MS + 1_000 * height if time_ms is None else time_ms)
    header = replace(
        empty_header(),
        number=height,
        parent_hash=Hash32(parent_hash),
        state_root=Hash32(state_root),
        timestamp=payload.time_ms // 1000,
        parent_beacon_block_root=Hash32(payload_root(payload)),
    )
    return LightBlock(
        raw_header=encode_header(header),
        payload=encode_payload(payload) if whole else prove_payload(payload),
        certificate=voting.commit(height, header.hash, **commit),
        voting_set=voting.encoded,
        next_set=b"" if following is voting else following.encoded,
        possessions=possessions,
    )


def hash_of(block: LightBlock) -> bytes:
    return keccak256(block.raw_header)


TENTH = light_block(10)
ELEVENTH = light_block(11, hash_of(TENTH))


def trusted_at(block: LightBlock) -> Trusted:
    return trust_by_hash(block, hash_of(block), GENESIS)


def client(start: LightBlock = TENTH, now_ms: int = NOW) -> LightClient:
    return LightClient(GENESIS, trusted_at(start), PARAMS, lambda: now_ms)


def rule_broken(call, *arguments) -> str:
    with pytest.raises(LightBlockRefused) as caught:
        call(*arguments)
    return caught.value.rule


def test_a_client_follows_a_real_chain_from_genesis():
    chain = LocalChain(validators=4)
    context = chain.execution.context
    genesis_hash, encoded_set = context.genesis_hash, encode_validator_set(context.voting_set)
    assert context.parent.number == 0
    genesis = LightBlock(encode_header(context.parent), encode_payload(context.parent_payload), b"", encoded_set)
    now = context.parent_payload.time_ms + 60_000
    trusted = trust_by_hash(genesis, genesis_hash, genesis_hash)
    followed = LightClient(genesis_hash, trusted, context.genesis.consensus, lambda: now)
    for height in (1, 2, 3):
        built = chain.build()
        sealed = decode_block(built.raw_block)
        certificate = chain.certificate(built.block_hash, signers=[0, 1, 3])
        chain.commit(built.block_hash)
        whole = LightBlock(encode_header(sealed.block.header), sealed.raw_payload, certificate, encoded_set)
        proven = replace(whole, payload=prove_payload(decode_payload(sealed.raw_payload)))
        assert read_light_block(whole) == read_light_block(proven)
        believed = followed.update(whole if height % 2 else proven).header
        assert (believed.height, believed.block_hash) == (height, built.block_hash)
        assert believed.certificate == decode_certificate(certificate)
    assert followed.trusted.next_set == context.voting_set
    assert followed.header_at(2).block_hash == followed.trusted.header.parent_hash


def test_an_election_is_followed_step_by_step_and_by_skipping():
    last = light_block(11, hash_of(TENTH), following=LATER)
    first = light_block(12, hash_of(last), voting=LATER)
    stepwise = client()
    stepwise.update(last)
    assert stepwise.update(first).next_set == LATER.set

    joiners = [secret(4), secret(5)]
    proofs = tuple((bls.public_key(each), bls.prove_possession(each)) for each in joiners)
    assert client().update(replace(first, possessions=proofs)).header.height == 12
    assert rule_broken(client().update, first) == "possession"
    exchanged = ((proofs[0][0], proofs[1][1]), proofs[1])
    assert rule_broken(client().update, replace(first, possessions=exchanged)) == "possession"


def test_bisection_crosses_an_election_of_strangers():
    """Blocks 10 to 16 are of the four; the strangers take over at 17."""
    blocks = {10: TENTH}
    for height in range(11, 21):
        voting, following = (STRANGERS if each >= 17 else FOUR for each in (height, height + 1))
        blocks[height] = light_block(height, hash_of(blocks[height - 1]), voting=voting, following=following)
    followed, target, tried = client(), 20, []
    while followed.trusted.header.height < 20:
        tried.append(target)
        if followed.trusted.next_set == STRANGERS.set or target < 17:
            followed.update(blocks[target])
            target = 20
        else:
            assert rule_broken(followed.update, blocks[target]) == "trust_level"
            target = next_height_to_try(followed.trusted.header.height, target)
    assert tried == [20, 15, 20, 17, 16, 20]


def test_a_block_that_is_believed_already_changes_nothing():
    followed = client()
    head = followed.update(ELEVENTH)
    assert followed.update(ELEVENTH) == followed.update(TENTH) == head
    other_round = replace(ELEVENTH, certificate=FOUR.commit(11, hash_of(ELEVENTH), round_=1))
    assert followed.update(other_round) == head
    assert rule_broken(followed.update, light_block(9)) == "height"


def test_nothing_is_believed_from_a_header_past_the_trusting_period():
    last_moment = START_MS + 10_000 + PERIOD_MS - 1
    assert client(now_ms=last_moment).update(ELEVENTH).header.height == 11
    assert rule_broken(client(now_ms=last_moment + 1).update, ELEVENTH) == "trusting_period"
    assert rule_broken(client(now_ms=last_moment + 1).update, light_block(20)) == "trusting_period"


def test_a_second_certified_hash_at_a_believed_height_is_a_fork_with_both_certificates():
    followed = client()
    followed.update(ELEVENTH)
    rival = light_block(11, hash_of(TENTH), state_root=b"\x01" * 32, signers=[0, 1, 2])
    with pytest.raises(ForkDetected) as caught:
        followed.update(rival)
    fork = caught.value
    assert (fork.known.block_hash, fork.other.block_hash) == (hash_of(ELEVENTH), hash_of(rival))
    assert [encode_certificate(each) for each in fork.certificates] == [ELEVENTH.certificate, rival.certificate]
    (evidence,) = fork.evidence
    assert verify_evidence(evidence, FOUR.set, GENESIS, bls.fast_aggregate_verify) == accused(evidence) == (0, 1, 2)
    assert fork.forged_headers == (), "both stand on one parent: they contradict each other, and forge nothing"
    # Nothing more is believed, good blocks included.
    for block in (rival, ELEVENTH, light_block(12, hash_of(ELEVENTH))):
        with pytest.raises(ForkDetected):
            followed.update(block)
    assert followed.trusted.header.block_hash == hash_of(ELEVENTH)


def test_a_fork_of_another_round_is_exported_without_evidence():
    followed = client()
    followed.update(ELEVENTH)
    with pytest.raises(ForkDetected) as caught:
        followed.update(light_block(11, hash_of(TENTH), state_root=b"\x01" * 32, round_=1))
    assert len(caught.value.certificates) == 2
    assert caught.value.evidence == ()


def test_a_certified_child_of_another_parent_is_a_fork():
    with pytest.raises(ForkDetected) as caught:
        client().update(light_block(11, keccak256(b"another tenth block")))
    assert [each.height for each in caught.value.certificates] == [10, 11]
    # Trusted by its hash, the tenth came without its RLP; the eleventh is a node's of the tenth to judge.
    child = light_block(11, keccak256(b"another tenth block"))
    assert caught.value.forged_headers == (ForgedHeader(child.raw_header, decode_certificate(child.certificate)),)


def test_a_fork_that_began_lower_gives_both_headers_for_the_chain_to_judge():
    followed = client()
    followed.update(ELEVENTH)
    rival = light_block(11, keccak256(b"another tenth block"), round_=1)
    for _ in range(2):
        with pytest.raises(ForkDetected) as caught:
            followed.update(rival)
        assert caught.value.evidence == ()
        assert caught.value.forged_headers == tuple(
            ForgedHeader(block.raw_header, decode_certificate(block.certificate)) for block in (ELEVENTH, rival)
        )


def test_a_rival_block_that_is_not_certified_by_the_set_of_its_height_is_only_refused():
    followed = client()
    head = followed.update(ELEVENTH)
    rival = light_block(11, state_root=b"\x01" * 32, signers=[0, 1])
    assert rule_broken(followed.update, rival) == "commit_quorum"
    assert rule_broken(followed.update, light_block(11, voting=STRANGERS)) == "voting_set"
    assert rule_broken(followed.update, replace(rival, certificate=b"")) == "certificate"
    orphan = light_block(12, keccak256(b"another"), signers=[0, 1])
    assert rule_broken(followed.update, orphan) == "commit_quorum"
    assert followed.update(light_block(12, head.header.block_hash)).header.height == 12


def test_a_rival_past_the_trusting_period_freezes_nobody():
    now = [NOW]
    followed = LightClient(GENESIS, trusted_at(TENTH), PARAMS, lambda: now[0])
    followed.update(ELEVENTH)
    now[0] = START_MS + 11_000 + PERIOD_MS
    rival = light_block(11, hash_of(TENTH), state_root=b"\x01" * 32)
    assert rule_broken(followed.update, rival) == "trusting_period"


def test_what_does_not_belong_to_the_header_is_refused():
    other = light_block(11, state_root=b"\x01" * 32, time_ms=START_MS)
    whole = light_block(11, hash_of(TENTH), whole=True)
    proof = ELEVENTH.payload
    cases = [
        ("encoding", replace(ELEVENTH, raw_header=ELEVENTH.raw_header[:-1])),
        ("encoding", replace(ELEVENTH, certificate=ELEVENTH.certificate[:-1])),
        ("encoding", replace(ELEVENTH, voting_set=ELEVENTH.voting_set + b"\0")),
        ("encoding", replace(ELEVENTH, next_set=b"\0")),
        ("encoding", replace(whole, payload=whole.payload[:-1])),
        ("branch", replace(whole, payload=light_block(12, whole=True).payload)),
        ("branch", replace(ELEVENTH, payload=other.payload)),
        ("branch", replace(ELEVENTH, payload=replace(proof, time_ms=proof.time_ms + 1))),
        ("branch", replace(ELEVENTH, payload=replace(proof, voting_set_hash=LATER.set.hash))),
        ("branch", replace(ELEVENTH, payload=replace(proof, next_set_hash=LATER.set.hash))),
        ("branch", replace(ELEVENTH, payload=replace(proof, branches=proof.branches[:2]))),
        ("branch", replace(ELEVENTH, payload=replace(proof, branches=tuple(each[:3] for each in proof.branches)))),
        ("time", replace(ELEVENTH, payload=replace(proof, time_ms=-1))),
        ("voting_set", replace(ELEVENTH, voting_set=LATER.encoded, next_set=FOUR.encoded)),
        ("next_set", replace(ELEVENTH, next_set=LATER.encoded)),
        ("commit_block_hash", replace(ELEVENTH, certificate=other.certificate)),
        ("certificate", replace(ELEVENTH, certificate=b"")),
    ]
    for rule, block in cases:
        assert rule_broken(client().update, block) == rule
    assert client().update(whole).header == client().update(ELEVENTH).header


def test_the_payloads_time_is_the_headers_second():
    payload = payload_of(11, FOUR, FOUR, START_MS + 11_000)
    header = replace(
        empty_header(),
        number=11,
        parent_hash=Hash32(hash_of(TENTH)),
        timestamp=payload.time_ms // 1000 + 1,
        parent_beacon_block_root=Hash32(payload_root(payload)),
    )
    block = LightBlock(encode_header(header), prove_payload(payload), FOUR.commit(11, header.hash), FOUR.encoded)
    assert rule_broken(client().update, block) == "timestamp"


def test_trust_begins_at_the_hash_that_was_given():
    assert trust_by_hash(replace(TENTH, certificate=b""), hash_of(TENTH), GENESIS).header.certificate is None
    assert rule_broken(trust_by_hash, TENTH, hash_of(ELEVENTH), GENESIS) == "trusted_hash"
    assert rule_broken(trust_by_hash, TENTH, hash_of(TENTH), keccak256(b"another")) == "commit_signature"
    assert rule_broken(trust_by_hash, replace(TENTH, certificate=ELEVENTH.certificate), hash_of(TENTH), GENESIS) == (
        "commit_height"
    )


def test_headers_kept_are_bounded(monkeypatch):
    monkeypatch.setattr("astralink_node.light_client.MAX_HEADERS_KEPT", 3)
    followed = client()
    for height in (20, 30, 40, 50):
        followed.update(light_block(height))
    assert [followed.header_at(height) is not None for height in (10, 20, 30, 40, 50)] == [
        False,
        False,
        True,
        True,
        True,
    ]
    assert rule_broken(followed.update, light_block(20, state_root=b"\x01" * 32)) == "height"


# --- Checkpoints ---------------------------------------------------------------------------------------------


def step(voting: Voters, epoch: int, following: Voters, *, height=None, signers=None, announced=None) -> CheckpointStep:
    last = 10 * epoch + 9 if height is None else height
    checkpoint = voting.checkpoint(epoch, last, (announced or following).set, signers or [0, 1, 2])
    return CheckpointStep(checkpoint, following.encoded)


def follow(*steps: CheckpointStep, genesis_hash: bytes = GENESIS, first_epoch: int = 3, voting: Voters = FOUR):
    return verify_checkpoint_chain(genesis_hash, 10, first_epoch, voting.set, steps)


def test_checkpoints_lead_from_set_to_set():
    end = follow(step(FOUR, 3, LATER), step(LATER, 4, STRANGERS), step(STRANGERS, 5, STRANGERS))
    assert (end.epoch, end.height, end.block_hash) == (5, 59, keccak256(b"block 59"))
    assert end.next_set == STRANGERS.set


def test_a_chain_of_checkpoints_skips_no_set_and_no_epoch():
    good = step(FOUR, 3, LATER)
    cases = [
        ("steps", []),
        ("epoch", [step(FOUR, 4, LATER)]),
        ("epoch", [good, step(LATER, 5, STRANGERS)]),
        ("height", [step(FOUR, 3, LATER, height=38)]),
        ("next_set", [step(FOUR, 3, LATER, announced=STRANGERS)]),
        ("checkpoint_quorum", [step(FOUR, 3, LATER, signers=[0, 1])]),
        ("checkpoint_key", [step(LATER, 3, LATER)]),
        ("checkpoint_key", [good, step(FOUR, 4, LATER)]),
        ("encoding", [replace(good, checkpoint=good.checkpoint[:-1])]),
        ("encoding", [replace(good, next_set=good.next_set + b"\0")]),
        ("checkpoint_signature", [replace(good, checkpoint=good.checkpoint[:-1] + bytes([good.checkpoint[-1] ^ 1]))]),
    ]
    for rule, steps in cases:
        assert rule_broken(follow, *steps) == rule
    with pytest.raises(LightBlockRefused, match="checkpoint_signature"):
        follow(good, genesis_hash=keccak256(b"another"))


def test_a_client_starts_at_the_end_of_a_chain_of_checkpoints():
    last = light_block(39, voting=FOUR, following=LATER)
    unsigned = Checkpoint(3, 39, hash_of(last), LATER.set.hash, bitmap_of([0, 1, 2], 4), (), ())
    root = signing_root(unsigned.sign_bytes(GENESIS))
    signed = replace(
        unsigned,
        keys=tuple(ml_dsa.public_key(each) for each in FOUR.seeds[:3]),
        signatures=tuple(ml_dsa.sign(each, root) for each in FOUR.seeds[:3]),
    )
    end = follow(CheckpointStep(encode_checkpoint(signed), LATER.encoded))
    trusted = trust_by_hash(last, end.block_hash, GENESIS)
    assert trusted.next_set == end.next_set
    followed = LightClient(GENESIS, trusted, PARAMS, lambda: NOW)
    assert followed.update(light_block(40, hash_of(last), voting=LATER)).header.height == 40


def test_a_light_client_loads_neither_py_evm_nor_trio_nor_the_database():
    code = "import sys, astralink_node.light_client; print(*{name.partition('.')[0] for name in sys.modules})"
    root = Path(__file__).parents[2]
    ran = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=60, check=True)
    loaded = set(ran.stdout.split())
    assert "consensus" in loaded
    assert loaded & {"eth", "trie", "trio", "plyvel", "asyncio", "genesis"} == set()
