"""Plays a scenario file (tests/unit/consensus/scenarios/README.md) with our height machines.

Strict on purpose: a machine says exactly what its step lists, a message is delivered only if it was said, and
whatever the schema does not know is an error.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from consensus.evidence import accused, find_evidence
from consensus.height_machine import (
    BlockBuilt,
    BlockChecked,
    BuildBlock,
    CertificateReceived,
    CheckBlock,
    CommitBlock,
    Input,
    Output,
    ProposalReceived,
    ReportEvidence,
    ScheduleTimeout,
    ShareQuorum,
    SignProposal,
    SignVote,
    StartHeight,
    TimeoutElapsed,
    VoteReceived,
)
from consensus.messages import NIL, VoteType
from consensus.replay import decode_input, encode_input, replay
from consensus.round_machine import TimeoutKind
from consensus.votes import SignedProposal, SignedVote
from tests.support.height_machines import (
    HEIGHT,
    PRECOMMIT,
    PREVOTE,
    Machine,
    certificate,
    context_of,
    precommit,
    prevote,
    proposal,
)
from tests.support.json_schema import violations

FOLDER = Path(__file__).parents[1] / "unit" / "consensus" / "scenarios"
SCHEMA = json.loads((FOLDER / "schema.json").read_text())


class ScenarioError(AssertionError):
    """A scenario that is malformed, or that our machines play otherwise. Names the step."""


def load_scenario(path: Path) -> dict[str, Any]:
    scenario: dict[str, Any] = json.loads(path.read_text(), object_pairs_hook=_without_twice)
    found = violations(scenario, SCHEMA)
    if found:
        raise ScenarioError(f"{path.name}: {'; '.join(found)}")
    return scenario


class ScenarioNetwork:
    """The machines of one scenario and all that was said among them."""

    def __init__(self, scenario: dict[str, Any]) -> None:
        self._scenario = scenario
        self._powers: list[int] = scenario["powers"]
        self._blocks: dict[str, dict[str, Any]] = scenario["blocks"]
        self._hash_of = {name: name.encode().ljust(32, b"_") for name in self._blocks} | {"nil": NIL}
        self._name_of = {block_hash: name for name, block_hash in self._hash_of.items()}
        self.machines = {index: Machine(context_of(self._powers, index)) for index in scenario["machines"]}
        self._said: set[tuple[int, SignedVote | SignedProposal]] = set()
        self._testimonies: list[Any] = []
        self._at = "before the first step"
        rotation = context_of(self._powers).proposers
        proposers = [rotation.at(round_) for round_ in range(len(scenario["proposers"]))]
        self._require(proposers == scenario["proposers"], f"proposers: expected {proposers}")

    def play(self) -> None:
        for number, step in enumerate(self._scenario["steps"]):
            self._at = f"step {number} ({step.get('why', step['do'])})"
            match step["do"]:
                case "start":
                    self._act(step, step["at"], [StartHeight()])
                case "built":
                    block = self._blocks[step["block"]]
                    event = BlockBuilt(step["round"], self._hash(step["block"]), block["time_ms"])
                    self._act(step, step["at"], [event])
                case "checked":
                    self._act(step, step["at"], [self._verdict(step["block"])])
                case "elapse":
                    kind = TimeoutKind[step["timeout"].upper()]
                    self._act(step, step["at"], [TimeoutElapsed(kind, step["round"])])
                case "deliver":
                    self._deliver(step)
                case "expect":
                    self._expect(step)
                case other:
                    raise ScenarioError(f"{self._at}: unknown action {other}")
        self._at = "outcome"
        self._check_outcome(self._scenario["outcome"])

    def _deliver(self, step: dict[str, Any]) -> None:
        word, *rest = step["message"].split()
        round_, name, *more = rest
        valid_round = int(more[0]) if more else -1
        block_hash = self._hash(name)
        if word in ("polka", "commit"):
            vote_type = PREVOTE if word == "polka" else PRECOMMIT
            for index in step["signers"]:
                self._require_said(index, _vote(vote_type, index, int(round_), block_hash, valid_round))
            received = certificate(vote_type, int(round_), block_hash, valid_round, step["signers"], len(self._powers))
            self._testimonies.append(received)
            self._act(step, step["to"], [CertificateReceived(received)])
            return
        events: list[tuple[int, Input]] = []
        for index in step["from"]:
            if word == "proposal":
                proposed = proposal(int(round_), block_hash, valid_round)
                self._require_said(index, proposed)
                self._require(
                    index == self._scenario["proposers"][int(round_)], f"validator {index} does not propose there"
                )
                arrived_ms = step.get("arrived_ms", self._blocks[name]["time_ms"])
                events.append((index, ProposalReceived(proposed, arrived_ms)))
            else:
                vote = _vote(VoteType[word.upper()], index, int(round_), block_hash, valid_round)
                self._require_said(index, vote)
                self._testimonies.append(vote)
                events.append((index, VoteReceived(vote)))
        self._act(step, step["to"], events)

    def _act(self, step: dict[str, Any], addressed: Sequence[int], events: Sequence[Any]) -> None:
        """Feed every addressed machine, and compare all that it says with what the step lists."""
        expected: dict[int, list[str]] = {}
        for key, words in step.get("says", {}).items():
            for index in (int(part) for part in key.split(",")):
                self._require(index in addressed and index not in expected, f"says: {index} is not addressed once")
                expected[index] = words
        for index in addressed:
            self._require(index in self.machines, f"{index} is no machine")
            said: list[str] = []
            for event in events:
                sender, message = event if isinstance(event, tuple) else (None, event)
                if sender != index:
                    said += self._feed(index, message)
            wanted = expected.get(index, [])
            self._require(said == wanted, f"validator {index} says {said}, expected {wanted}")

    def _feed(self, index: int, event: Input) -> Iterator[str]:
        """Everything that comes out, with own messages fed back at once and checks answered at once."""
        pending: list[Input] = [event]
        while pending:
            for output in self.machines[index].feed(pending.pop(0)):
                yield self._words(output)
                pending += self._consequences(index, output)

    def _consequences(self, index: int, output: Output) -> list[Input]:
        match output:
            case SignVote(vote_type, round_, block_hash, valid_round):
                vote = _vote(vote_type, index, round_, block_hash, valid_round)
                self._said.add((index, vote))
                self._testimonies.append(vote)
                return [VoteReceived(vote)]
            case SignProposal(round_, block_hash, valid_round):
                proposed = proposal(round_, block_hash, valid_round)
                self._said.add((index, proposed))
                return [ProposalReceived(proposed, self._blocks[self._name_of[block_hash]]["time_ms"])]
            case CheckBlock(block_hash):
                name = self._name_of[block_hash]
                return [] if index in self._blocks[name].get("held_back_from", []) else [self._verdict(name)]
            case _:
                return []

    def _expect(self, step: dict[str, Any]) -> None:
        for index in step["at"]:
            machine = self.machines[index]
            found = {
                "round": machine.round_,
                "step": machine.step.name.lower(),
                "locked": self._pair(machine.lock),
                "valid": self._pair(machine.valid),
                "decided": self._decision(index),
                "precommits": self._precommits(machine),
            }
            for field in step.keys() - {"do", "at", "why"}:
                self._require(
                    found[field] == step[field], f"validator {index}: {field} is {found[field]}, expected {step[field]}"
                )

    def _check_outcome(self, outcome: dict[str, Any]) -> None:
        decided = {str(index): self._decision(index) for index in self.machines}
        self._require(decided == outcome["decided"], f"decided {decided}")
        guilty = {index for each in find_evidence(self._testimonies) for index in accused(each)}
        self._require(sorted(guilty) == outcome["guilty"], f"guilty {sorted(guilty)}")
        for index, machine in self.machines.items():
            log = [decode_input(encode_input(event)) for event in machine.log]
            state, _ = replay(context_of(self._powers, index), log)
            same = (state.rounds, state.tally, state.decision) == (
                machine.state.rounds,
                machine.state.tally,
                machine.state.decision,
            )
            self._require(same, f"validator {index} is elsewhere after a replay of its log")

    def _words(self, output: Output) -> str:
        match output:
            case BuildBlock(round_):
                return f"build {round_}"
            case CheckBlock(block_hash):
                return f"check {self._name_of[block_hash]}"
            case SignProposal(round_, block_hash, valid_round):
                return f"proposal {round_} {self._name_of[block_hash]} {valid_round}"
            case SignVote(VoteType.PREVOTE, round_, block_hash, valid_round):
                return f"prevote {round_} {self._name_of[block_hash]} {valid_round}"
            case SignVote(VoteType.PRECOMMIT, round_, block_hash, _):
                return f"precommit {round_} {self._name_of[block_hash]}"
            case ShareQuorum(quorum):
                return f"share {quorum.round_} {self._name_of[quorum.block_hash]} {quorum.valid_round}"
            case ScheduleTimeout(kind, round_, _):
                return f"timeout {kind.name.lower()} {round_}"
            case ReportEvidence(evidence):
                return "evidence " + ",".join(str(index) for index in accused(evidence))
            case CommitBlock(quorum):
                return f"commit {quorum.round_} {self._name_of[quorum.block_hash]}"

    def _verdict(self, name: str) -> BlockChecked:
        block = self._blocks[name]
        return BlockChecked(self._hash(name), block["valid"], block["build_round"], block["time_ms"])

    def _hash(self, name: str) -> bytes:
        self._require(name in self._hash_of, f"{name} is no block of this scenario")
        return self._hash_of[name]

    def _pair(self, pair: tuple[int, bytes]) -> list[Any] | None:
        return None if pair[0] < 0 else [pair[0], self._name_of[pair[1]]]

    def _decision(self, index: int) -> str | None:
        decided = self.machines[index].decided
        return None if decided is None else self._name_of[decided]

    def _precommits(self, machine: Machine) -> list[int]:
        """Whose precommits for the decided block are here: what the next proposer's certificate would hold."""
        decision = machine.state.decision
        if decision is None:
            return []
        votes = machine.state.tally.ballots(decision.round_, PRECOMMIT).votes
        return sorted(index for index, vote in votes.items() if vote.block_hash == decision.block_hash)

    def _require_said(self, index: int, message: SignedVote | SignedProposal) -> None:
        known = index not in self.machines or (index, message) in self._said
        self._require(known, f"validator {index} never said {message}")

    def _require(self, holds: bool, otherwise: str) -> None:
        if not holds:
            raise ScenarioError(f"{self._at}: {otherwise}")


def _vote(vote_type: VoteType, index: int, round_: int, block_hash: bytes, valid_round: int) -> SignedVote:
    if vote_type is PREVOTE:
        return prevote(index, round_, block_hash, valid_round, HEIGHT)
    return precommit(index, round_, block_hash, HEIGHT)


def _without_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """JSON objects whose keys stand once: a second one would hide the first."""
    if len({key for key, _ in pairs}) != len(pairs):
        raise ScenarioError(f"a key stands twice among {[key for key, _ in pairs]}")
    return dict(pairs)
