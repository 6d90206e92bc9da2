"""The table of methods names all that there are, and commands that exist."""

import pytest
import typer

from persim_gym.baselines.methods import METHODS
from persim_gym.baselines.registry import BASELINES
from persim_gym.cli import app

VERBS = typer.main.get_command(app).commands


def test_every_baseline_has_a_row():
    assert {f"persim baseline {name} DATASET" for name in BASELINES} <= {method.command for method in METHODS}
    assert len({method.name for method in METHODS}) == len(METHODS)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_every_command_is_a_verb_with_these_options(method):
    persim, verb, *words = method.command.split()
    assert persim == "persim" and verb in VERBS
    known = {option for parameter in VERBS[verb].params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known


def test_covariates_are_seen_by_references_alone():
    assert {method.kind for method in METHODS} == {"model-based", "model-free", "reference"}
    for method in METHODS:
        assert ("covariates" in method.sees) == (method.kind == "reference")
