"""Planning in bytes against planning in float32: what is compared, and its table."""

import numpy as np
import pytest

from persim_gym.simulator.dynamics import folding
from persim_gym.simulator.kernels.dense import byte_products
from persim_gym.simulator.registry import load_simulator
from persim_gym.studies import quantization
from persim_gym.studies.quantization import FLOAT32, quantization_table, run_quantization_study, run_quantized_episode

needs_bytes = pytest.mark.skipif(not byte_products(), reason="the processor does not multiply bytes")


@needs_bytes
def test_dynamics_without_quantization_are_those_of_a_processor_without_bytes(save_robot, monkeypatch):
    simulator, rng = load_simulator(str(save_robot("pendulum"))), np.random.default_rng(0)
    inputs = np.zeros((3, 40, 3), dtype=np.float32), rng.uniform(-2, 2, (40, 5, 1)).astype(np.float32)
    rounded, exact = (simulator.dynamics(2, quantize).rollout(*inputs) for quantize in (True, False))
    assert np.abs(rounded - exact).max() > 0
    np.testing.assert_allclose(rounded, exact, atol=0.05)
    monkeypatch.setattr(folding, "byte_products", lambda: None)
    np.testing.assert_array_equal(simulator.dynamics(2, quantize=True).rollout(*inputs), exact)


@needs_bytes
def test_every_episode_is_planned_in_both_from_the_same_start(save_robot, tmp_path):
    folder, out = str(save_robot("pendulum")), tmp_path / "rows.csv"
    rows = run_quantization_study(folder, [0, 1], 1, 2, out, workers=1)
    assert {(r["agent"], r["arithmetic"]) for r in rows} == {
        (agent, name) for agent in "01" for name in (FLOAT32, byte_products().name)
    }
    alone = run_quantized_episode(folder, 2, 1, 0, FLOAT32)["return"]
    (logged,) = (float(r["return"]) for r in rows if (r["agent"], r["arithmetic"]) == ("1", FLOAT32))
    assert logged == alone
    before = out.read_text()
    assert run_quantization_study(folder, [0, 1], 1, 2, out, workers=1) == rows and out.read_text() == before


def test_differences_are_paired_by_episode():
    returns = {
        ("0", FLOAT32): (10.0, 50.0),
        ("0", "AVX2"): (9.0, 49.0),
        ("3", FLOAT32): (5.0, 7.0),
        ("3", "AVX2"): (8, 10),
    }
    rows = [
        {"agent": agent, "episode": str(episode), "arithmetic": name, "return": str(values[episode])}
        for episode in range(2)
        for (agent, name), values in returns.items()
    ]
    *_, first, second, everything = quantization_table(rows).splitlines()
    assert first == "| AVX2 | 0 | 2 | 29.0 | 30.0 | -1.0 | -1.0 to -1.0 |"
    assert second == "| AVX2 | 3 | 2 | 9.0 | 6.0 | +3.0 | +3.0 to +3.0 |"
    assert everything.startswith("| AVX2 | all | 4 | 19.0 | 18.0 | +1.0 |")


def test_a_processor_without_bytes_has_nothing_to_compare(monkeypatch, tmp_path):
    monkeypatch.setattr(quantization, "byte_products", lambda: None)
    with pytest.raises(ValueError, match="nothing to compare"):
        run_quantization_study("halfcheetah/random-v0", [0], 1, 1, tmp_path / "rows.csv")
    assert not (tmp_path / "rows.csv").exists()
