"""A chain with staking in this process: four validators, short epochs, a fifth one's keys, and JSON-RPC to it."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from astralink_node.chain.messages import Candidate, Commit, Committed
from astralink_node.cli.rpc_client import RequestFailed
from astralink_node.cli.transactions import ContractCall
from astralink_node.evm.blocks import decode_receipt
from astralink_node.gateway.config import GatewayConfig
from astralink_node.gateway.context import ChainIdentity
from astralink_node.gateway.gateway import Gateway, HeadFeed
from astralink_node.gateway.link_messages import NewHead
from astralink_node.types import Address
from astralink_node.validator.key_proofs import KeyProofs, prove_keys
from astralink_node.validator.keys import keys_of
from consensus.staking_params import StakingParams
from genesis.dev_accounts import DEVNET_ACCOUNTS
from genesis.devnet_terms import DEVNET_CHAIN_ID
from tests.support.chains import CONTRACTS, LocalChain, candidate, checkpoint_seed, genesis_text, voting_secret
from tests.support.gateways import Client, SmallNode

BWT = 10**18
EPOCH_LENGTH = 20
VALIDATORS = 4
PARAMS = StakingParams(downtime_window=8)
FIRST_OPERATOR = Address(b"\xa0" * 20)
SECOND_OPERATOR = Address(b"\xa1" * 20)
ALICE, BOB = DEVNET_ACCOUNTS[0].address, DEVNET_ACCOUNTS[1].address


def fifth_keys(operator: Address = BOB) -> KeyProofs:
    """Of a validator that is not in genesis, for one of the developers' accounts."""
    return prove_keys(
        keys_of(voting_secret(VALIDATORS), checkpoint_seed(VALIDATORS), operator), DEVNET_CHAIN_ID, operator
    )


class StakingNode(SmallNode):
    """What a gateway sees; blocks hold the calls that a test gives them, from developers' accounts by number."""

    def __init__(self, params: StakingParams = PARAMS) -> None:
        super().__init__()
        genesis = genesis_text(VALIDATORS, extra_alloc=CONTRACTS, epoch_length=EPOCH_LENGTH, staking=params)
        self.chain = LocalChain(genesis=genesis, validators=VALIDATORS + 1)
        self.execution = self.chain.execution
        self.genesis_hash = self.execution.status().genesis_hash
        self.head = self._genesis_head()
        self._nonces: dict[int, int] = {}

    def calls(self, *calls: tuple[int, ContractCall]) -> Committed:
        """A block with these; every one must succeed."""
        committed = self.produce_with([self._candidate(account, call) for account, call in calls])
        assert [decode_receipt(each.raw_receipt).succeeded for each in committed.receipts] == [True] * len(calls)
        return committed

    def to(self, height: int) -> None:
        while self.execution.status().head_height < height:
            self.produce()

    def produce(self, **options: Any) -> Committed:
        """A block with what is in the pool."""
        waiting = [Candidate(each.raw_transaction, each.sender) for each in self.pool.values()]
        self.pool.clear()
        return self.produce_with(waiting, **options)

    def pass_time(self, seconds: int) -> None:
        self.produce(time_ms=self.execution.status().head_time_ms + 1_000 * seconds)

    def produce_with(self, candidates: list[Candidate], **options: Any) -> Committed:
        """A second after its parent, so that there is inflation."""
        options.setdefault("time_ms", self.execution.status().head_time_ms + 1_000)
        self.head = self.chain.produce(candidates, **options)
        if self.announcing:
            self.push(NewHead(self.head))
        return self.head

    def produce_signed_by(self, *members: int) -> Committed:
        """An empty block whose certificate only these members signed."""
        built = self.chain.build()
        committed = self.execution.commit(
            Commit(built.block_hash, self.chain.certificate(built.block_hash, signers=members))
        )
        assert isinstance(committed, Committed), committed
        self.head = committed
        if self.announcing:
            self.push(NewHead(committed))
        return committed

    def _candidate(self, account: int, call: ContractCall) -> Candidate:
        nonce = self._nonces.get(account, 0)
        self._nonces[account] = nonce + 1
        return candidate(account, nonce, to=call.to, value=call.value_wei, data=call.data, gas=2_000_000)


class GatewayRpc:
    """What a verb's client is to it: a gateway in this process in front of `node`, which makes a block of whatever is
    sent. A context manager."""

    def __init__(self, node: StakingNode) -> None:
        self.node = node
        self.asked: list[str] = []

    def __enter__(self) -> GatewayRpc:
        self._runner = asyncio.Runner()
        self._runner.run(self._open())
        return self

    def __exit__(self, *exception: object) -> None:
        self.node.followers.remove(self._client.feed.on_push)
        self._submissions.cancel()
        self._runner.close()

    async def _open(self) -> None:
        config = GatewayConfig("", "")
        feed = HeadFeed(config, time.monotonic)
        self.node.followers.append(feed.on_push)
        feed.on_push(NewHead(self.node.head))
        identity = ChainIdentity(self.node.chain_id, self.node.genesis_hash, "AstraLink/test")
        gateway = Gateway(config, identity, self.node, feed)
        self._submissions = asyncio.create_task(gateway.submissions.run())
        self._client = Client(self.node, gateway, feed)

    def call(self, method: str, *params: object) -> Any:
        self.asked.append(method)
        message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}
        answer = self._runner.run(self._client.send(message))
        if "error" in answer:
            error = answer["error"]
            raise RequestFailed("http://node", method, error["code"], error["message"], error.get("data"))
        if method == "eth_sendRawTransaction":
            self._runner.run(self._produce())
        return answer["result"]

    async def _produce(self) -> None:
        self.node.produce()
