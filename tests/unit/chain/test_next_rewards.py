"""Estimates count what the next block's rewards make its calls settle first."""

from astralink_node.chain.call_messages import CallRequest, EstimateGasQuestion, GasAnswer
from astralink_node.chain.messages import AtLatest, Query
from astralink_node.evm.blocks import decode_receipt
from contracts.artifacts import encode_call, load
from contracts.places import STAKING
from genesis.dev_accounts import DEVNET_ACCOUNTS
from tests.support.chains import LocalChain
from tests.support.staking_chains import BWT, StakingChain, operator_of


def estimate(chain: LocalChain, account: int, to: bytes, value: int, data: bytes) -> int:
    sender = DEVNET_ACCOUNTS[account].address
    request = CallRequest(sender, to, None, None, None, None, value, data, (), None)
    answer = chain.execution.query(Query(AtLatest(), EstimateGasQuestion(request, ())))
    assert isinstance(answer, GasAnswer), answer
    return answer.gas


def test_a_call_that_is_given_exactly_what_was_estimated_succeeds() -> None:
    chain = StakingChain()
    for nonce, function in enumerate(["delegate", "delegate", "claim", "delegate", "claim"]):
        value = BWT if function == "delegate" else 0
        gas = estimate(chain, 0, STAKING, value, encode_call(load("Staking"), function, [operator_of(1)]))
        committed = chain.step([chain.send(0, nonce, function, operator_of(1), value=value, gas=gas)])
        (receipt,) = committed.receipts
        assert decode_receipt(receipt.raw_receipt).succeeded, (nonce, function, gas)


def test_other_calls_and_other_chains_cost_what_they_did() -> None:
    for chain in (StakingChain(), LocalChain()):
        assert estimate(chain, 0, bytes(19) + b"\x42", 1, b"") == 21_000
