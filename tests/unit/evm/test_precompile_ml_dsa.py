"""The ML-DSA-65 precompile at 0x0a5165: EIP-8355's encoding and gas."""

import pytest

from astralink_node.crypto import ml_dsa
from astralink_node.evm.fee_rules import MIN_GAS_TARGET, FeeBounds
from astralink_node.evm.fork_rules import OSAKA, ChainRules, astralink, plain_ethereum
from astralink_node.evm.precompiles.ml_dsa import ml_dsa_gas, ml_dsa_verify
from tests.support.evm_worlds import World, address

SEED = ml_dsa.Seed(bytes(range(32)))
KEY = ml_dsa.public_key(SEED)
MESSAGE = b"a checkpoint"
SIGNED = KEY + ml_dsa.sign(SEED, MESSAGE) + MESSAGE
YES = bytes(31) + b"\x01"
NO = bytes(32)
BOUNDS = FeeBounds(MIN_GAS_TARGET, MIN_GAS_TARGET, 0, 0, 0, 0)
RELAY = address(0x77)
FORWARD = "365f5f375f5f365f620a51655afa503d5f5f3e3d5ff3"
"""Passes its input on to 0x0a5165 and returns what came back."""


def test_a_signature_by_the_key_gives_the_word_one() -> None:
    assert ml_dsa_verify(SIGNED) == YES
    assert ml_dsa_verify(KEY + ml_dsa.sign(SEED, b"")) == YES


@pytest.mark.parametrize("position", [0, 1_951, 1_952, 1_952 + 3_308, len(SIGNED) - 1])
def test_any_other_key_signature_or_message_gives_the_word_zero(position: int) -> None:
    changed = bytearray(SIGNED)
    changed[position] ^= 1
    assert ml_dsa_verify(bytes(changed)) == NO


@pytest.mark.parametrize("length", [0, 1, 1_952, 1_952 + 3_308])
def test_input_too_short_for_key_and_signature_gives_the_word_zero(length: int) -> None:
    assert ml_dsa_verify(SIGNED[:length]) == NO


@pytest.mark.parametrize(("message_bytes", "gas"), [(0, 9_000), (1, 9_006), (32, 9_006), (33, 9_012), (1_000, 9_192)])
def test_gas_grows_with_the_words_of_the_message(message_bytes: int, gas: int) -> None:
    assert ml_dsa_gas(bytes(1_952 + 3_309 + message_bytes)) == gas


def test_short_input_costs_the_base_gas() -> None:
    assert ml_dsa_gas(b"") == ml_dsa_gas(bytes(100)) == 9_000


@pytest.mark.parametrize(("rules", "output"), [(astralink(1, BOUNDS), YES), (plain_ethereum(OSAKA), b"")])
def test_a_transaction_reaches_it_on_this_chain_and_nothing_under_plain_ethereum(
    rules: ChainRules, output: bytes
) -> None:
    world = World({RELAY: FORWARD}, rules=rules)
    assert world.send(RELAY, data=SIGNED)
    assert world.output == output
