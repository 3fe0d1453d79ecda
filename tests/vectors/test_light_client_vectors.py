"""The published light-client vectors: the reference and the implementation refuse by the same rule, or both believe."""

import json
from pathlib import Path

import pytest

from astralink_node.light_client import (
    ForkDetected,
    LightBlock,
    LightBlockRefused,
    LightClient,
    PayloadProof,
    trust_by_hash,
)
from consensus.hashing import keccak256
from consensus.params import ConsensusParams
from tests.vectors.consensus_reference import Refused, unhex
from tests.vectors.light_client_reference import judge

FILE = json.loads((Path(__file__).parent / "data" / "consensus" / "light_client.json").read_text())
SETS = {entry["name"]: unhex(entry["encoded"]) for entry in FILE["sets"]}
BLOCKS = {entry["name"]: entry for entry in FILE["blocks"]}
PARAMS = ConsensusParams(
    min_block_interval_ms=FILE["minBlockIntervalMs"],
    precision_ms=FILE["precisionMs"],
    evidence_max_age_ms=FILE["unbondingMs"] - 1,
    unbonding_ms=FILE["unbondingMs"],
)


def reference_rule(case) -> str:
    try:
        judge(FILE, BLOCKS["trusted"], BLOCKS[case["new"]], case["nowMs"])
    except Refused as error:
        return error.rule
    return ""


def light_block(entry) -> LightBlock:
    payload = entry["payload"]
    return LightBlock(
        raw_header=unhex(entry["rawHeader"]),
        payload=unhex(payload) if isinstance(payload, str) else payload_proof(payload),
        certificate=unhex(entry["certificate"]),
        voting_set=SETS[entry["votingSet"]],
        next_set=SETS[entry["nextSet"]] if entry["nextSet"] else b"",
        possessions=tuple((unhex(key), unhex(proof)) for key, proof in entry["possessions"]),
    )


def payload_proof(payload) -> PayloadProof:
    branches = tuple(tuple(unhex(sibling) for sibling in branch) for branch in payload["branches"])
    return PayloadProof(payload["timeMs"], unhex(payload["votingSetHash"]), unhex(payload["nextSetHash"]), branches)


def implementation_rule(case) -> str:
    genesis_hash, trusted = unhex(FILE["genesisHash"]), light_block(BLOCKS["trusted"])
    start = trust_by_hash(trusted, keccak256(trusted.raw_header), genesis_hash)
    new = light_block(BLOCKS[case["new"]])
    client = LightClient(genesis_hash, start, PARAMS, lambda: case["nowMs"])
    try:
        client.update(new)
    except LightBlockRefused as error:
        return error.rule
    except ForkDetected:
        return "fork"
    assert client.trusted.header.block_hash == keccak256(new.raw_header)
    return ""


@pytest.mark.parametrize("case", FILE["cases"], ids=lambda case: f"{case['new']}: {case['brokenRule'] or 'believed'}")
def test_a_light_block_is_believed_or_refused_by_the_named_rule(case):
    assert reference_rule(case) == case["brokenRule"]
    assert implementation_rule(case) == case["brokenRule"]


def test_the_specification_lists_exactly_the_rules_that_the_vectors_break():
    specification = (Path(__file__).parents[2] / "docs" / "specification.md").read_text()
    section = specification.split("\n## Light client\n")[1].split("\n## ")[0]
    listed = [line.split("`")[1] for line in section.splitlines() if line.startswith("| `")]
    assert sorted(listed) == sorted({case["brokenRule"] for case in FILE["cases"]} - {""})
