"""Settings."""

import json
from dataclasses import replace

import pytest

from persim_gym.baselines.cadm.config import FEATURES, PUBLISHED, CadmSettings
from persim_gym.envs import DOMAINS
from persim_gym.storage import changed_fields, from_plain


@pytest.mark.parametrize("settings", [CadmSettings(), PUBLISHED], ids=["default", "published"])
def test_settings_survive_json(settings):
    assert from_plain(CadmSettings, json.loads(json.dumps(settings.to_json()))) == settings


def test_unknown_settings_are_refused():
    with pytest.raises(ValueError, match="'width' of CadmSettings: missing, or not of this version"):
        from_plain(CadmSettings, {"width": 3})


@pytest.mark.parametrize(
    "change",
    [
        {"particles": 7},
        {"steps": 0},
        {"layers": ()},
        {"learning_rate": 0.0},
        {"validation": 1.0},
        {"beta": -1.0},
        {"schedule": "linear"},
        {"patience": 0},
        {"drawn": 11},
    ],
    ids=str,
)
def test_impossible_settings_are_refused(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        replace(CadmSettings(), **change)


def test_settings_are_changed_by_text():
    changed = changed_fields(CadmSettings(), ["steps=7", "layers=[8, 9]", "beta=1", "schedule=constant"])
    assert changed == replace(CadmSettings(), steps=7, layers=(8, 9), beta=1.0, schedule="constant")


@pytest.mark.parametrize("setting", ["width=3", "steps=1.5", "layers=8", "steps"])
def test_text_that_sets_nothing_is_refused(setting):
    with pytest.raises(ValueError, match="there is no setting|cannot be"):
        changed_fields(CadmSettings(), [setting])


def test_the_sizes_are_the_published_ones():
    for settings in (CadmSettings(), PUBLISHED):
        assert (settings.context, settings.context_layers, settings.layers) == (10, (256, 128, 64), (200,) * 4)
        assert (settings.history, settings.future, settings.backward_weight) == (10, 10, 0.5)
        assert (settings.members, settings.particles, settings.batch) == (5, 20, 256)


def test_features_are_of_domains_that_exist():
    assert set(FEATURES) <= set(DOMAINS)
