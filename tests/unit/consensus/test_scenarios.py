"""Whole situations of several validators, message by message, from the files in scenarios/."""

from copy import deepcopy

import pytest

from tests.support.scenarios import FOLDER, ScenarioError, ScenarioNetwork, load_scenario

FILES = sorted(path for path in FOLDER.glob("*.json") if path.name != "schema.json")
LINE28 = FOLDER / "line28_reproposal_with_polka.json"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_validator_says_exactly_what_the_scenario_says(path):
    ScenarioNetwork(load_scenario(path)).play()


def test_the_situations_that_must_be_there_are_there():
    names = {path.stem for path in FILES}
    assert names >= {
        "line28_reproposal_with_polka",
        "line42_valid_value_without_lock",
        "hidden_lock",
        "disagreement_heals",
        "disagreement_by_too_many_faulty",
        "round_skip",
        "nil_rounds",
        "late_precommits",
        "decide_in_earlier_round",
        "equivocating_proposer",
        "lock_is_not_given_up_for_older_polka",
        "own_lock_is_not_prevoted_without_polka",
    }


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_correct_validators_decide_one_block_unless_a_third_is_faulty(path):
    scenario = load_scenario(path)
    faulty = set(range(len(scenario["powers"]))) - set(scenario["machines"])
    faulty_power = sum(scenario["powers"][index] for index in faulty)
    decided = {block for block in scenario["outcome"]["decided"].values() if block is not None}
    assert set(scenario["outcome"]["guilty"]) <= faulty
    if 3 * faulty_power < sum(scenario["powers"]):
        assert len(decided) <= 1
    elif len(decided) > 1:
        guilty_power = sum(scenario["powers"][index] for index in scenario["outcome"]["guilty"])
        assert 3 * guilty_power > sum(scenario["powers"])


def changed(change):
    scenario = deepcopy(load_scenario(LINE28))
    change(scenario)
    return scenario


def forged(scenario):
    scenario["steps"][3]["message"] = "prevote 0 nil -1"


def unheard(scenario):
    del scenario["steps"][0]["says"]["1,2"]


def overheard(scenario):
    scenario["steps"][0]["says"]["1,2"].append("build 0")


def told_twice(scenario):
    scenario["steps"][0]["says"]["1"] = ["timeout propose 0"]


def unknown_block(scenario):
    scenario["steps"][2]["message"] = "proposal 0 w -1"


def wrong_proposer(scenario):
    scenario["proposers"] = [0, 2]


def wrong_state(scenario):
    scenario["steps"][4]["locked"] = None


def wrong_outcome(scenario):
    scenario["outcome"]["decided"]["1"] = None


def wrong_guilty(scenario):
    scenario["outcome"]["guilty"] = [3]


def false_certificate(scenario):
    scenario["steps"].insert(3, {"do": "deliver", "message": "commit 0 v", "signers": [0, 1, 2], "to": [0], "says": {}})


def from_no_proposer(scenario):
    scenario["steps"].insert(2, {"do": "deliver", "message": "proposal 0 v -1", "from": [3], "to": [1]})


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (forged, "never said"),
        (unheard, "validator 1 says .'timeout propose 0'., expected ..$"),
        (overheard, "expected .'timeout propose 0', 'build 0'."),
        (told_twice, "is not addressed once"),
        (unknown_block, "w is no block"),
        (wrong_proposer, "proposers: expected .0, 1."),
        (wrong_state, "locked is .0, 'v'., expected None"),
        (wrong_outcome, "outcome: decided"),
        (wrong_guilty, "guilty .."),
        (false_certificate, "never said"),
        (from_no_proposer, "validator 3 does not propose there"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_scenario_that_is_not_played_so_is_refused(change, complaint):
    with pytest.raises(ScenarioError, match=complaint):
        ScenarioNetwork(changed(change)).play()


@pytest.mark.parametrize(
    ("text", "with_", "complaint"),
    [
        ('"do": "start"', '"do": "stop"', "fits none"),
        ('"about"', '"abuot"', "abuot is not allowed"),
        ('"message": "proposal 0', '"message": "propose 0', "does not match"),
        ('"powers": [1, 1, 1, 1]', '"powers": [1, 1, 1, 0]', "0 < 1"),
        ('"powers": [1, 1, 1, 1]', '"powers": [1], "powers": [1, 1, 1, 1]', "stands twice"),
    ],
)
def test_a_malformed_scenario_is_refused(tmp_path, text, with_, complaint):
    path = tmp_path / "scenario.json"
    original = LINE28.read_text()
    path.write_text(original.replace(text, with_))
    assert path.read_text() != original
    with pytest.raises(ScenarioError, match=complaint):
        load_scenario(path)
