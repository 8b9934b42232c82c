"""The generator: every mutant is a change, of something that has an effect."""

import pytest

from model import mutants, synth


@pytest.fixture(scope="module")
def templates():
    return synth.load()[0]


@pytest.fixture(scope="module")
def every(templates):
    return list(mutants.generate(templates))


def test_every_mutant_differs_and_leaves_the_original_alone(templates, every):
    before = repr(templates)

    assert all(mutant.apply(templates) != templates for mutant in every)
    assert repr(templates) == before


def test_same_seed_gives_same_mutants(templates, every):
    assert [mutant.name for mutant in mutants.generate(templates)] == [mutant.name for mutant in every]


def test_every_category_has_mutants(every):
    assert {mutant.category for mutant in every} == set(mutants.CATEGORIES)


def test_nothing_without_effect_is_changed(every):
    assert not [mutant.name for mutant in every if set(mutant.path) & set(mutants.NO_EFFECT)]


@pytest.mark.parametrize("part", [
    "SecurityGroupIngress.0: drop", "Action.0: drop", "AccessString.Fn::Sub: +hget -> nothing",
    "MetricName: ", "Dimensions.0: drop", "ComparisonOperator: ", "TreatMissingData: ", "RouteTableIds",
    "ServiceName.Fn::Sub: ", "PrivateDnsEnabled: True -> False", "Resources.S3Endpoint: drop", "Principal: widen",
    "DeletionPolicy", "DependsOn", "Condition", "arms of", "negated",
])
def test_generator_reaches(every, part):
    assert any(part in mutant.name for mutant in every)
