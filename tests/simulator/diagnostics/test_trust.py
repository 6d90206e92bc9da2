"""What a card keeps of trust."""

import json
from dataclasses import replace

import numpy as np
import pytest
from support.errors import rollouts

from persim_gym.simulator.diagnostics.conformal import conformal_scale
from persim_gym.simulator.diagnostics.nearest_residuals import NearestResiduals
from persim_gym.simulator.diagnostics.trust import Trust, summarize_trust


def test_a_profile_that_is_not_finite_is_no_number_on_the_card():
    errors, spreads = rollouts(np.random.default_rng(0), 40)
    errors[:10, 5:], spreads[:30, 10:] = np.inf, np.inf
    trust = summarize_trust((errors, spreads), bound=0.2, level=0.9)
    assert trust.profile["10"][0] > 0 and trust.profile["10"][1] is None
    assert trust.spread_profile["10"] is not None and trust.spread_profile["20"] is None
    assert Trust.from_json(json.loads(json.dumps(trust.to_json(), allow_nan=False))) == trust


def test_the_scale_covers_agents_that_nothing_is_known_of_too():
    errors, spreads = rollouts(np.random.default_rng(3), 400)
    strangers = 5 * errors, 2 * spreads
    alone, both = (summarize_trust((errors, spreads), *more, bound=0.2, level=0.9) for more in ((), (strangers,)))
    assert alone.stranger_coverage is None
    assert both.scale == pytest.approx(conformal_scale(*strangers, 0.2, 0.9), rel=1e-5)
    assert both.scale > alone.scale and both.coverage >= alone.coverage
    assert both.stranger_coverage >= 0.88
    milder = summarize_trust((errors, spreads), (errors, 2 * spreads), bound=0.2, level=0.9)
    assert milder.scale == alone.scale


def test_limits_survive_json():
    errors, spreads = rollouts(np.random.default_rng(0), 40)
    for trust in (
        summarize_trust((errors, spreads), bound=0.2, level=0.9),
        summarize_trust((errors[:5], spreads[:5]), bound=0.2, level=0.9),
    ):
        assert Trust.from_json(trust.to_json()) == trust
    with pytest.raises(ValueError, match="persim calibrate"):
        Trust.from_json({})


def test_a_card_from_before_residuals_keeps_its_meaning(fleet, model):
    errors, spreads = rollouts(np.random.default_rng(0), 40)
    trust = summarize_trust((errors, spreads), bound=0.2, level=0.9)
    stored = {k: value for k, value in trust.to_json().items() if k not in ("residuals", "stranger_coverage")}
    old = Trust.from_json(stored)
    assert not old.residuals and old.logged(model, fleet) is None
    assert isinstance(replace(old, residuals=True).logged(model, fleet), NearestResiduals)
    with pytest.raises(ValueError, match="persim calibrate"):
        Trust.from_json({**stored, "unheard": 1})
