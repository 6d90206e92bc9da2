"""Where a calibrated simulator goes: into its own folder, or among the user's own; what is bundled is never written."""

from dataclasses import asdict, replace

import numpy as np
import pytest
from support.errors import rollouts
from support.simulators import own_simulator

from persim_gym.datasets import of_simulator
from persim_gym.datasets.of_simulator import logged_data
from persim_gym.paths import ASSETS
from persim_gym.simulator.diagnostics.bands import LEVELS, BandScale
from persim_gym.simulator.diagnostics.calibrate import Measured
from persim_gym.simulator.diagnostics.measure_noise import MeasuredNoise
from persim_gym.simulator.diagnostics.trust import summarize_trust
from persim_gym.simulator.noise.gaussian import fit_gaussian
from persim_gym.simulator.registry import DEFAULT_SIMULATOR, find_simulator, load_simulator
from persim_gym.workflows import calibrate as workflow
from persim_gym.workflows.calibrate import calibrate


@pytest.fixture
def measured(cars, monkeypatch, home):
    """Limits and noise that every calibration finds at once, without data of the simulator's own."""
    trust = summarize_trust(rollouts(np.random.default_rng(0), 100), bound=0.5, level=0.9)
    noise = fit_gaussian(cars.obs, cars.action, cars.next_obs - cars.obs, np.ones(2), 3)
    scale = BandScale(np.array([1, 2]), np.full((len(LEVELS), 2, 2), 1.5))
    monkeypatch.setattr(workflow, "measure", lambda *args, **keywords: Measured(trust, MeasuredNoise(noise, scale)))
    monkeypatch.setattr(workflow, "logged_data", lambda simulator: cars)
    return trust.to_json()


def bundled():
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in ASSETS.rglob("*") if path.is_file()}


def test_a_bundled_simulator_is_calibrated_among_the_users_own(measured, home):
    before, original = bundled(), load_simulator()
    assert original.folder == ASSETS / "simulators" / DEFAULT_SIMULATOR
    found = calibrate(DEFAULT_SIMULATOR, progress=False)
    assert found.folder == home / "simulators" / DEFAULT_SIMULATOR == find_simulator(DEFAULT_SIMULATOR)
    assert bundled() == before
    assert found.card.trust == measured and load_simulator().card == found.card
    assert asdict(replace(found.card, trust={})) == asdict(replace(original.card, trust={}))
    assert original.noise is None and found.noise is not None and found.band_scale is not None
    for name, value in original.model.state_dict().items():
        np.testing.assert_array_equal(found.model.state_dict()[name], value)


def test_a_simulator_of_ones_own_is_calibrated_in_place_or_where_one_says(measured, simulator, tmp_path):
    own = load_simulator(str(simulator.save(tmp_path / "own")))
    other = calibrate(own, out=tmp_path / "other", progress=False)
    assert other.folder == tmp_path / "other" and other.card.trust == measured
    assert load_simulator(str(tmp_path / "own")).card.trust == {}
    assert calibrate(str(tmp_path / "own"), progress=False).folder == tmp_path / "own"
    assert load_simulator(str(tmp_path / "own")).card.trust == measured


def test_a_calibration_replaces_no_other_weights_unasked(measured, simulator, tmp_path):
    there = load_simulator(str(simulator.save(tmp_path / "there")))
    with pytest.raises(ValueError, match="there holds other weights; --force replaces them"):
        calibrate(DEFAULT_SIMULATOR, out=tmp_path / "there", progress=False)
    assert load_simulator(str(tmp_path / "there")).card == there.card
    calibrate(DEFAULT_SIMULATOR, out=tmp_path / "there", force=True, progress=False)
    assert load_simulator(str(tmp_path / "there")).card.sha256 == load_simulator(DEFAULT_SIMULATOR).card.sha256


def test_what_cannot_be_calibrated_is_refused_before_anything_is_trained(measured, tmp_path):
    with pytest.raises(ValueError, match="holds no prior over agents"):
        calibrate(str(own_simulator(tmp_path / "own", "cartpole")))
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "thesis.tex").write_text("three years")
    with pytest.raises(ValueError, match="holds thesis.tex, which would be lost"):
        calibrate(DEFAULT_SIMULATOR, out=tmp_path / "notes")


def test_data_that_are_not_the_simulators_are_refused(simulator, cars, monkeypatch):
    known = cars.select(cars.agent < 5)
    monkeypatch.setattr(of_simulator, "load", lambda name, spec: replace(known, n_agents=5))
    assert logged_data(simulator).content_hash() == simulator.card.dataset_hash
    monkeypatch.setattr(of_simulator, "load", lambda name, spec: cars)
    with pytest.raises(ValueError, match="is not what simulator small was trained on .*train again"):
        logged_data(simulator)
