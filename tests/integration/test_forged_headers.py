"""A header that two validators forged, on a chain with staking: frozen at once, gone at the boundary, then judged."""

from astralink_node.chain.ledger import Ledger
from astralink_node.chain.messages import Commit, Committed, Validate
from astralink_node.evm.blocks import decode_receipt
from astralink_node.types import Address
from consensus.evidence_forms import encode_any_evidence, evidence_hash
from consensus.payload import decode_payload
from contracts.artifacts import decode_event, load
from genesis.dev_accounts import DEVNET_ACCOUNTS
from tests.support.staking_chains import (
    BWT,
    EPOCH_LENGTH,
    StakingChain,
    imported,
    operator_of,
    staking_genesis,
)

GENESIS = staking_genesis()
FIRST_OF_1, FIRST_OF_2 = EPOCH_LENGTH, 2 * EPOCH_LENGTH
JUDGE, DELEGATOR = 5, 6
"""Developers' accounts. The judge's validator alone has more than two thirds of the power."""
GUILTY, INNOCENT = operator_of(1), operator_of(2)


def succeeded(committed: Committed) -> list[bool]:
    return [decode_receipt(receipt.raw_receipt).succeeded for receipt in committed.receipts]


def tokens_of(chain: StakingChain, operator: Address) -> int:
    return int(chain.view("validator", operator)["tokens"])


def chain_with_a_judge() -> StakingChain:
    """In its second epoch, in which the judge's validator votes and somebody has delegated to both who will forge."""
    chain = StakingChain(genesis=GENESIS)
    committed = chain.step(
        [
            chain.registration(JUDGE, 0, JUDGE, 1_000 * BWT),
            chain.send(DELEGATOR, 0, "delegate", GUILTY, value=8 * BWT),
            chain.send(DELEGATOR, 1, "delegate", INNOCENT, value=8 * BWT),
        ]
    )
    assert succeeded(committed) == [True] * 3
    chain.advance_to(FIRST_OF_1 + 3)
    return chain


def frozen_chain() -> StakingChain:
    """One block later both are frozen."""
    chain = chain_with_a_judge()
    chain.step(evidence=[encode_any_evidence(chain.forged_header([1, 2], FIRST_OF_1 + 1))])
    return chain


def test_a_forged_headers_signers_are_frozen_at_once_and_out_of_the_set_at_the_boundary() -> None:
    chain = chain_with_a_judge()
    forged = chain.forged_header([1, 2], FIRST_OF_1 + 1)
    chain.step(evidence=[encode_any_evidence(forged)])
    for operator in (GUILTY, INNOCENT):
        assert chain.view("is_frozen", operator) is True
        assert chain.view("validator", operator)["jailed"] is True
        assert chain.view("freeze_of", operator) == (40, 1, evidence_hash(forged))
    freezes = [call for call in chain.protocol_log() if call.name == "freeze"]
    assert [call.failure for call in freezes] == ["", ""]
    events = [decode_event(load("Staking"), event.topics, event.data) for call in freezes for event in call.events]
    assert [(name, fields["power"], fields["epoch"]) for name, fields in events] == [("Frozen", 40, 1)] * 2
    assert {fields["operator"] for _, fields in events} == {GUILTY, INNOCENT}
    # Nothing else of theirs is touched yet, and the set is constant within an epoch.
    assert tokens_of(chain, GUILTY) == 40 * BWT
    assert {GUILTY, INNOCENT} <= chain.voters
    chain.advance_to(FIRST_OF_2 - 2)
    assert {GUILTY, INNOCENT} <= chain.voters
    chain.advance_to(FIRST_OF_2)
    assert chain.voters == {operator_of(0), operator_of(3), DEVNET_ACCOUNTS[JUDGE].address}


def test_no_stake_leaves_the_frozen_nor_comes_to_them() -> None:
    chain = frozen_chain()
    committed = chain.step(
        [
            chain.send(DELEGATOR, 2, "undelegate", GUILTY, BWT),
            chain.send(DELEGATOR, 3, "redelegate", GUILTY, operator_of(0), BWT),
            chain.send(DELEGATOR, 4, "delegate", INNOCENT, value=BWT),
            chain.send(DELEGATOR, 5, "delegate", operator_of(0), value=BWT),
        ]
    )
    assert succeeded(committed) == [False, False, False, True]
    assert tokens_of(chain, GUILTY) == tokens_of(chain, INNOCENT) == 40 * BWT


def test_governance_judges_one_guilty_and_the_other_not() -> None:
    chain = frozen_chain()
    committed = chain.step(
        [
            chain.govern(JUDGE, 1, "propose_judgement", GUILTY, True),
            chain.govern(JUDGE, 2, "propose_judgement", INNOCENT, False),
            chain.govern(JUDGE, 3, "execute", 0),
            chain.govern(JUDGE, 4, "execute", 1),
        ]
    )
    assert succeeded(committed) == [True] * 4
    assert chain.view("is_frozen", GUILTY) is False
    assert chain.view("validator", GUILTY)["tombstoned"] is True
    assert tokens_of(chain, GUILTY) == 38 * BWT
    assert chain.view("is_frozen", INNOCENT) is False
    assert chain.view("validator", INNOCENT)["tombstoned"] is False
    assert tokens_of(chain, INNOCENT) == 40 * BWT
    committed = chain.step([chain.send(DELEGATOR, 2, "undelegate", INNOCENT, BWT)])
    assert succeeded(committed) == [True]
    # What the same branch left behind freezes nobody any more: neither the item again nor another header of it.
    for height in (FIRST_OF_1 + 1, FIRST_OF_1 + 2):
        raw = encode_any_evidence(chain.forged_header([1, 2], height))
        assert chain.build(evidence=[raw]).useless_evidence == (raw,)
    # In another epoch it is another crime.
    chain.step(evidence=[encode_any_evidence(chain.forged_header([1, 2], FIRST_OF_1 - 1))])
    assert chain.view("is_frozen", INNOCENT) is True
    assert chain.view("is_frozen", GUILTY) is False


def test_honest_certificates_freeze_nobody() -> None:
    chain = chain_with_a_judge()
    for height in range(1, chain.head_height + 1):
        header = Ledger(chain.store).header(height)
        everybody = [0, 1, 2, 3, *([JUDGE] if height >= FIRST_OF_1 else [])]
        raw = encode_any_evidence(chain.signed_header(header, everybody))
        assert chain.build(evidence=[raw]).useless_evidence == (raw,), height


def test_a_node_that_joined_by_a_snapshot_judges_headers_of_before_as_everybody_does() -> None:
    chain = chain_with_a_judge()
    chain.advance_to(FIRST_OF_2 - 1)
    joined = imported(chain, FIRST_OF_2 - 1)
    crimes = {FIRST_OF_2: chain.forged_header([1], FIRST_OF_1 + 2), FIRST_OF_2 + 1: chain.forged_header([2], 4)}
    while chain.head_height < FIRST_OF_2 + 4:
        forged = crimes.get(chain.head_height)
        committed = chain.step(evidence=[] if forged is None else [encode_any_evidence(forged)])
        assert len(decode_payload(committed.block.raw_payload).evidence) == (forged is not None)
        decided = chain.execution.decided(chain.head_height)
        assert joined.validate(Validate(decided.raw_block)).block_hash == committed.block.block_hash
        assert joined.commit(Commit(committed.block.block_hash, decided.certificate)) == committed
    assert chain.view("is_frozen", GUILTY) is True
    assert chain.view("is_frozen", INNOCENT) is True
