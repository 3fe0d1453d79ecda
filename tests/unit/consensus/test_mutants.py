"""The list of mutants fits the code that it mutates; whether they are caught is for `make mutants` to say."""

import ast
from collections import Counter
from pathlib import Path

import pytest

from tests.mutants.run import OWN_TESTS, load_mutants, mutated

ROOT = Path(__file__).parents[3]
MUTANTS = load_mutants()


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutants_text_stands_once_and_its_mutation_is_python(mutant):
    source = (ROOT / mutant.path).read_text()
    changed = mutated(source, mutant)
    assert changed != source
    ast.parse(changed)


def test_the_round_machine_has_at_least_25_mutants_and_every_name_is_one():
    assert sum(mutant.path == "consensus/round_machine.py" for mutant in MUTANTS) >= 25
    assert max(Counter((mutant.path, mutant.name) for mutant in MUTANTS).values()) == 1
    assert all(mutant.why for mutant in MUTANTS)


def test_every_mutated_file_has_tests_of_its_own_that_are_asked_first():
    assert {mutant.path for mutant in MUTANTS} == set(OWN_TESTS)
    for paths in OWN_TESTS.values():
        assert all((ROOT / path).is_file() for path in paths)
