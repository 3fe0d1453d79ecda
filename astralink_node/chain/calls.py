"""Simulated calls on a state: eth_call, eth_estimateGas and eth_createAccessList as typed answers."""

from collections.abc import Callable
from dataclasses import dataclass

from astralink_node.chain.messages import (
    AccessListQuestion,
    Answer,
    CallFailed,
    CallQuestion,
    EstimateGasQuestion,
)
from astralink_node.evm.fork_rules import ChainRules
from astralink_node.evm.pipeline import BlockContext
from astralink_node.state.flat_state import StateReader


@dataclass(frozen=True, slots=True)
class CallLimits:
    gas: int
    check_time: Callable[[], None]


def answer_call(
    rules: ChainRules, block: BlockContext, state: StateReader, question: CallQuestion, limits: CallLimits
) -> Answer:
    return CallFailed("invalid", "calls are not served yet")


def answer_estimate(
    rules: ChainRules, block: BlockContext, state: StateReader, question: EstimateGasQuestion, limits: CallLimits
) -> Answer:
    return CallFailed("invalid", "calls are not served yet")


def answer_access_list(
    rules: ChainRules, block: BlockContext, state: StateReader, question: AccessListQuestion, limits: CallLimits
) -> Answer:
    return CallFailed("invalid", "calls are not served yet")
