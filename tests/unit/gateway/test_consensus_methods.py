"""The methods about consensus, and that what they serve is enough for a light client that trusts only genesis."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from astralink_node.chain.codec import encode
from astralink_node.chain.messages import Answer, Committed, Query
from astralink_node.crypto import bls, ml_dsa
from astralink_node.crypto.keccak import keccak256
from astralink_node.evm.blocks import Header, empty_header
from astralink_node.gateway.link_messages import (
    MAX_ROUNDS_SHOWN,
    ConsensusState,
    EvidenceVerdict,
    LinkFailed,
    Member,
    NewHead,
    Reply,
    Request,
    RoundVotes,
    VotesFor,
)
from astralink_node.gateway.rpc_errors import INVALID_PARAMS, SERVER_ERROR
from astralink_node.types import Address, Hash32
from consensus.certificate import Certificate, bitmap_of, verify_commit
from consensus.checkpoint import decode_checkpoint, encode_checkpoint, verify_checkpoint
from consensus.messages import NIL, VoteType
from consensus.payload import decode_payload, payload_root
from consensus.validator_set import Validator, ValidatorSet, encode_validator_set
from tests.support.chains import CONTRACTS, LocalChain, genesis_text
from tests.support.gateways import Client, SmallNode, hexed, with_client

EPOCH_LENGTH = 3
VALIDATORS = 4


class ValidatorsNode(SmallNode):
    """Four validators and short epochs; blocks carry what a test gives them."""

    def __init__(self, height: int = 0) -> None:
        super().__init__()
        genesis = genesis_text(VALIDATORS, extra_alloc=CONTRACTS, epoch_length=EPOCH_LENGTH)
        self.chain = LocalChain(genesis=genesis, validators=VALIDATORS)
        self.execution = self.chain.execution
        self.genesis_hash = self.execution.status().genesis_hash
        self.head = self._genesis_head()
        for _ in range(height):
            self.produce()

    def produce(self, **options: Any) -> Committed:
        self.head = self.chain.produce(**options)
        if self.announcing:
            self.push(NewHead(self.head))
        return self.head


def with_checkpoint() -> tuple[ValidatorsNode, bytes]:
    """At height 5; block 4 carries the checkpoint of epoch 0."""
    node = ValidatorsNode(3)
    checkpoint = encode_checkpoint(node.chain.checkpoint(0, signers=[0, 1, 3]))
    node.produce(checkpoint=checkpoint)
    node.produce()
    return node, checkpoint


# --- astralink_getCheckpoint -----------------------------------------------------------------------------------


def test_a_checkpoint_is_served_with_all_its_fields() -> None:
    node, raw = with_checkpoint()

    async def body(client: Client) -> None:
        found = await client.call("astralink_getCheckpoint", "0x0")
        checkpoint = decode_checkpoint(raw)
        assert found == {
            "epoch": "0x0",
            "number": "0x2",
            "blockHash": (await client.call("eth_getBlockByNumber", "0x2", False))["hash"],
            "nextSetHash": (await client.call("astralink_getValidators", "0x3"))["setHash"],
            "signersBitmap": "0x0b",
            "signatures": [
                {"index": hex(index), "key": hexed(key), "signature": hexed(signature)}
                for index, key, signature in zip((0, 1, 3), checkpoint.keys, checkpoint.signatures, strict=True)
            ],
            "checkpointHash": hexed(keccak256(raw)),
            "carriedBy": "0x4",
            "raw": hexed(raw),
        }
        for latest in (("latest",), (None,), ()):
            assert await client.call("astralink_getCheckpoint", *latest) == found
        payload = await client.call("astralink_getPayload", "latest")
        assert (payload["checkpoint"], payload["checkpointHash"]) == ("0x", found["checkpointHash"])

    with_client(body, node=node)


def test_no_checkpoint_is_null() -> None:
    async def body(client: Client) -> None:
        assert await client.call("astralink_getCheckpoint") is None
        assert await client.call("astralink_getCheckpoint", "latest") is None
        assert await client.call("astralink_getCheckpoint", "0x0") is None
        assert await client.call("astralink_getCheckpoint", hex(2**64 - 1)) is None

    with_client(body, node=ValidatorsNode(3))


@pytest.mark.parametrize("wrong", ["0x", "0x00", "1", 1, "pending", "0x10000000000000000", {}, True, "-0x1"])
def test_a_wrong_epoch_is_named(wrong: object) -> None:
    async def body(client: Client) -> None:
        error = await client.error("astralink_getCheckpoint", wrong)
        assert error["code"] == INVALID_PARAMS
        assert error["message"].startswith("invalid argument 0: epoch: ")
        error = await client.error("astralink_getCheckpoint", "0x0", "0x0")
        assert error["message"] == "too many arguments, want at most 1"

    with_client(body)


def test_a_checkpoint_waits_for_the_head_that_carries_it_to_be_announced() -> None:
    class CountingNode(ValidatorsNode):
        async def query(self, query: Query) -> Answer:
            answer = await super().query(query)
            answered.release()
            return answer

    node = CountingNode(3)
    node.announcing = False
    answered = asyncio.Semaphore(0)

    async def body(client: Client) -> None:
        node.produce(checkpoint=encode_checkpoint(node.chain.checkpoint(0)))
        asked = asyncio.create_task(client.call("astralink_getCheckpoint", "latest"))
        validators = asyncio.create_task(client.call("astralink_getValidators", "latest"))
        for _ in range(2):
            await answered.acquire()
        assert not asked.done()
        assert not validators.done()
        node.push(NewHead(node.head))
        assert (await asked)["carriedBy"] == (await client.call("eth_blockNumber")) == "0x4"
        assert (await validators)["number"] == "0x4"

    with_client(body, node=node)


# --- astralink_getValidators -----------------------------------------------------------------------------------


def test_the_validators_of_a_block_are_served_with_all_their_fields() -> None:
    node = ValidatorsNode(4)
    expected = node.execution.context.voting_set

    async def body(client: Client) -> None:
        found = await client.call("astralink_getValidators", "0x4")
        assert found == {
            "number": "0x4",
            "epoch": "0x1",
            "setHash": hexed(expected.hash),
            "totalPower": hex(expected.total_power),
            "aggregateKey": hexed(expected.aggregate_key),
            "memberRoot": hexed(expected.member_root),
            "validators": [
                {
                    "index": hex(index),
                    "votingKey": hexed(member.voting_key),
                    "checkpointKeyHash": hexed(member.ml_dsa_key_hash),
                    "power": hex(member.power),
                    "operator": hexed(member.operator),
                }
                for index, member in enumerate(expected.validators)
            ],
            "nextSetHash": hexed(expected.hash),
            "registered": None,
        }
        assert await client.call("astralink_getValidators") == found
        block = await client.call("eth_getBlockByNumber", "0x4", False)
        assert await client.call("astralink_getValidators", block["hash"]) == found
        assert await client.call("astralink_getValidators", {"blockNumber": "0x4"}) == found
        payload = await client.call("astralink_getPayload", "0x4")
        assert (payload["votingSetHash"], payload["nextSetHash"]) == (found["setHash"], found["nextSetHash"])

    with_client(body, node=node)


def test_pending_names_who_decides_the_next_block() -> None:
    async def body(client: Client) -> None:
        found = await client.call("astralink_getValidators", "pending")
        assert (found["number"], found["epoch"]) == ("0x3", "0x1")

    with_client(body, node=ValidatorsNode(2))


def test_the_validators_of_a_block_that_is_not_there_are_null() -> None:
    async def body(client: Client) -> None:
        assert await client.call("astralink_getValidators", "0x3") is None
        assert await client.call("astralink_getValidators", "0x" + "de" * 32) is None
        error = await client.error("astralink_getValidators", "0x")
        assert (error["code"], error["message"]) == (INVALID_PARAMS, 'invalid argument 0: block: hex string "0x"')

    with_client(body, node=ValidatorsNode(2))


# --- astralink_consensusState ----------------------------------------------------------------------------------

LOCKED = b"\x07" * 32
MEMBERS = tuple(Member(bytes([0xA0 + index]) * 48, bytes([0xB0 + index]) * 20, 32) for index in range(4))
STATE = ConsensusState(
    height=9,
    round_=1,
    step="precommit",
    proposer_index=3,
    locked_round=0,
    locked_hash=LOCKED,
    valid_round=0,
    valid_hash=LOCKED,
    members=MEMBERS,
    total_power=128,
    proposed_hash=b"",
    is_proposal_checked=False,
    rounds=(
        RoundVotes(0, 2, (VotesFor(LOCKED, 96, bitmap_of([0, 1, 3], 4)),), (VotesFor(NIL, 64, bitmap_of([1, 2], 4)),)),
        RoundVotes(1, 3, (), ()),
    ),
    waiting_since_ms=1_700_000_123_456,
    own_index=3,
    is_validator=True,
    is_signing=False,
)


def test_the_state_of_consensus_is_shown_with_who_voted_for_what() -> None:
    node = SmallNode()
    node.consensus_state = STATE

    async def body(client: Client) -> None:
        shown = await client.call("astralink_consensusState")
        explanation = shown.pop("explanation")
        assert explanation.startswith("height 9 round 1 waits in precommit since ")
        assert "4 of 4 validators silent (#0 0xa0a0a0a0.., last vote prevote of round 0" in explanation
        assert explanation.endswith("; this validator does not sign yet")
        assert shown.pop("missing") == [
            {
                "index": hex(index),
                "votingKey": hexed(member.voting_key),
                "operator": hexed(member.operator),
                "isSelf": index == 3,
                "isConnected": None,
                "lastVote": f"{'precommit' if index in (1, 2) else 'prevote'} of round 0",
                "lastVoteNumber": None,
            }
            for index, member in enumerate(MEMBERS)
        ]
        assert shown.pop("away") == []
        assert shown == {
            "number": "0x9",
            "round": "0x1",
            "step": "precommit",
            "proposerIndex": "0x3",
            "lockedRound": 0,
            "lockedHash": hexed(LOCKED),
            "validRound": 0,
            "validHash": hexed(LOCKED),
            "totalPower": "0x80",
            "rounds": [
                {
                    "round": "0x0",
                    "proposerIndex": "0x2",
                    "prevotes": [
                        {
                            "blockHash": hexed(LOCKED),
                            "power": "0x60",
                            "voters": ["0x0", "0x1", "0x3"],
                            "votersBitmap": "0x0b",
                        }
                    ],
                    "precommits": [
                        {"blockHash": None, "power": "0x40", "voters": ["0x1", "0x2"], "votersBitmap": "0x06"}
                    ],
                },
                {"round": "0x1", "proposerIndex": "0x3", "prevotes": [], "precommits": []},
            ],
            "waitingSinceMs": hex(1_700_000_123_456),
            "isValidator": True,
            "isSigning": False,
        }
        node.consensus_state = replace(STATE, locked_round=-1, locked_hash=b"", valid_round=-1, valid_hash=b"")
        unlocked = await client.call("astralink_consensusState")
        assert [unlocked[name] for name in ("lockedRound", "lockedHash", "validRound", "validHash")] == [
            -1,
            None,
            -1,
            None,
        ]
        assert (await client.error("astralink_consensusState", "latest"))["code"] == INVALID_PARAMS

    with_client(body, node=node)


def test_a_node_without_rounds_shows_null() -> None:
    async def body(client: Client) -> None:
        assert await client.call("astralink_consensusState") is None

    with_client(body)


def test_a_node_that_cannot_answer_is_an_error() -> None:
    class Stopping(SmallNode):
        def reply(self, request: Request) -> Reply:
            return LinkFailed("the node is stopping")

    async def body(client: Client) -> None:
        error = await client.error("astralink_consensusState")
        assert error == {"code": SERVER_ERROR, "message": "the node is stopping"}

    with_client(body, node=Stopping())


def test_the_state_of_the_largest_set_is_a_small_message() -> None:
    voters = b"\xff" * 64
    votes = tuple(VotesFor(bytes([number]) * 32, 2**59, voters) for number in range(4))
    rounds = tuple(RoundVotes(number, 511, votes, votes) for number in range(MAX_ROUNDS_SHOWN))
    assert len(encode(replace(STATE, rounds=rounds))) < 1 << 14


# --- astralink_submitEvidence ----------------------------------------------------------------------------------


def test_evidence_goes_to_the_node_whose_verdict_is_the_answer() -> None:
    node = SmallNode()

    async def body(client: Client) -> None:
        error = await client.error("astralink_submitEvidence", "0x0102")
        assert error == {"code": SERVER_ERROR, "message": "already known"}
        node.evidence_verdict = EvidenceVerdict(b"h" * 32, "")
        assert await client.call("astralink_submitEvidence", "0x03") == hexed(b"h" * 32)
        assert node.evidence == [b"\1\2", b"\3"]
        for parameters in ([], ["nonsense"], ["0x03", "0x04"]):
            assert (await client.error("astralink_submitEvidence", *parameters))["code"] == INVALID_PARAMS

    with_client(body, node=node)


def test_evidence_that_the_node_cannot_take_now_is_an_error_with_its_words() -> None:
    class Stopping(SmallNode):
        def reply(self, request: Request) -> Reply:
            return LinkFailed("the node is stopping")

    async def body(client: Client) -> None:
        error = await client.error("astralink_submitEvidence", "0x01")
        assert error == {"code": SERVER_ERROR, "message": "the node is stopping"}

    with_client(body, node=Stopping())


# --- A light client --------------------------------------------------------------------------------------------


def number(value: str) -> int:
    return int(value, 16)


def raw(value: str) -> bytes:
    return bytes.fromhex(value[2:])


def header_of(block: dict[str, Any]) -> Header:
    """A header from the fields of eth_getBlock."""
    return replace(
        empty_header(),
        parent_hash=Hash32(raw(block["parentHash"])),
        ommers_hash=Hash32(raw(block["sha3Uncles"])),
        coinbase=Address(raw(block["miner"])),
        state_root=Hash32(raw(block["stateRoot"])),
        transactions_root=Hash32(raw(block["transactionsRoot"])),
        receipts_root=Hash32(raw(block["receiptsRoot"])),
        logs_bloom=raw(block["logsBloom"]),
        number=number(block["number"]),
        gas_limit=number(block["gasLimit"]),
        gas_used=number(block["gasUsed"]),
        timestamp=number(block["timestamp"]),
        extra_data=raw(block["extraData"]),
        prev_randao=Hash32(raw(block["mixHash"])),
        base_fee_per_gas=number(block["baseFeePerGas"]),
        parent_beacon_block_root=Hash32(raw(block["parentBeaconBlockRoot"])),
        requests_hash=Hash32(raw(block["requestsHash"])),
    )


def set_of(answer: dict[str, Any]) -> ValidatorSet:
    members = tuple(
        Validator(raw(each["votingKey"]), raw(each["checkpointKeyHash"]), number(each["power"]), raw(each["operator"]))
        for each in answer["validators"]
    )
    return ValidatorSet(members, raw(answer["aggregateKey"]))


def certificate_of(answer: dict[str, Any]) -> Certificate:
    return Certificate(
        VoteType[answer["voteType"].upper()],
        number(answer["number"]),
        number(answer["round"]),
        answer["validRound"],
        raw(answer["blockHash"]),
        raw(answer["signersBitmap"]),
        raw(answer["signature"]),
    )


def test_a_light_client_follows_the_chain_from_genesis_by_what_is_served() -> None:
    node, _ = with_checkpoint()

    async def body(client: Client) -> None:
        genesis_hash = node.genesis_hash
        genesis_payload = decode_payload(raw((await client.call("astralink_getPayload", "0x0"))["raw"]))
        genesis = header_of(await client.call("eth_getBlockByNumber", "0x0", False))
        assert genesis.hash == genesis_hash
        assert payload_root(genesis_payload) == genesis.parent_beacon_block_root
        trusted = genesis_payload.next_set_hash
        for height in range(1, 6):
            header = header_of(await client.call("eth_getBlockByNumber", hex(height), False))
            payload = decode_payload(raw((await client.call("astralink_getPayload", hex(height)))["raw"]))
            voting_set = set_of(await client.call("astralink_getValidators", hex(height)))
            certificate = certificate_of(await client.call("astralink_getCertificate", hex(height)))
            assert voting_set.hash == payload.voting_set_hash == trusted
            assert payload_root(payload) == header.parent_beacon_block_root
            verify_commit(certificate, height, header.hash, voting_set, genesis_hash, bls.fast_aggregate_verify)
            trusted = payload.next_set_hash

    with_client(body, node=node)


def test_a_light_client_that_distrusts_bls_goes_from_checkpoint_to_checkpoint() -> None:
    node, _ = with_checkpoint()
    node.produce()
    node.produce(checkpoint=encode_checkpoint(node.chain.checkpoint(1)))

    async def body(client: Client) -> None:
        genesis = await client.call("astralink_getPayload", "0x0")
        trusted = raw(genesis["nextSetHash"])
        for epoch in range(2):
            served = await client.call("astralink_getCheckpoint", hex(epoch))
            checkpoint = decode_checkpoint(raw(served["raw"]))
            voting_set = set_of(await client.call("astralink_getValidators", served["number"]))
            assert voting_set.hash == trusted
            verify_checkpoint(checkpoint, voting_set, node.genesis_hash, ml_dsa.verify)
            header = header_of(await client.call("eth_getBlockByNumber", served["number"], False))
            assert (checkpoint.epoch, checkpoint.block_hash) == (epoch, header.hash)
            trusted = checkpoint.next_set_hash

    with_client(body, node=node)


def test_what_is_served_is_the_sets_own_encoding() -> None:
    node = ValidatorsNode(1)

    async def body(client: Client) -> None:
        served = set_of(await client.call("astralink_getValidators"))
        assert encode_validator_set(served) == node.head.voting_set

    with_client(body, node=node)
