"""Fused rollouts of learned dynamics: as the plain calls, one step after the other."""

import os
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from gymnasium import spaces
from llvmlite import ir
from llvmlite.binding import parse_assembly
from numba import njit
from numba.core import config

from persim_gym.envs import DOMAINS
from persim_gym.parallel import run_each, split_pieces
from persim_gym.planning import CEM, RandomShooting
from persim_gym.planning import scoring as rollout
from persim_gym.planning.scoring import Objective, best_first, rollout_returns
from persim_gym.simulator.dynamics import folding as networks
from persim_gym.simulator.dynamics.bind import bind_agent
from persim_gym.simulator.kernels.deep_weights import SILU_LOWEST, deep_network
from persim_gym.simulator.kernels.dense import (
    AVX2,
    BYTE_LEVELS,
    SUMMED_BYTES,
    UNITS,
    VNNI,
    _emit_blocks,
    byte_products,
    cpu_features,
    dense,
    pack_weights,
    quantize_activations,
)
from persim_gym.simulator.kernels.quantization import equalize_units, quantize_layer, quantize_network, quantize_rows
from persim_gym.simulator.kernels.simd import INT, LANES, REAL
from persim_gym.simulator.model.config import ModelConfig
from persim_gym.simulator.model.ensemble import FactoredEnsemble
from persim_gym.simulator.registry import load_simulator
from persim_gym.task import FunctionDynamics, PlanningDynamics, Task, never

SHAPES = {  # small ones of the sizes of other tests' models: the kernel is compiled for each size anew
    "relu": ModelConfig(4, 2, 2, 0, 3, 2, (20,)),
    "silu": ModelConfig(4, 4, 3, 0, 3, 2, (33,), (), "silu"),
    "one component": ModelConfig(4, 1, 5, 0, 2, 1, (7,), (), "silu"),
    "deep, discrete": ModelConfig(4, 3, 2, 0, 3, 2, (20, 20)),
    "deep": ModelConfig(4, 5, 0, 2, 3, 2, (24, 24), (16,), "silu"),
    "deep, relu": ModelConfig(4, 5, 0, 2, 3, 2, (24,), (16,)),
    "odd widths": ModelConfig(4, 3, 0, 1, 3, 2, (17, 9, 30), (5,), "silu"),
    "linear action encoder": ModelConfig(4, 3, 0, 2, 3, 2, (12,), ()),
    "learned task": ModelConfig(4, 2, 2, 0, 3, 2, (20,), extra_dim=2),
    "deep learned task": ModelConfig(4, 3, 0, 2, 3, 2, (20, 20), (8,), extra_dim=2),
}


needs_bytes = pytest.mark.skipif(not byte_products(), reason="the processor does not multiply bytes")
FIRST = Task(lambda obs, action, next_obs: next_obs[..., 0], never)
MAIN = threading.main_thread()


def drawn(shape, bounded=False, agent=2):
    """A model with scaling, and an agent's dynamics."""
    ensemble = FactoredEnsemble(shape, seed=1).requires_grad_(False)
    generator = torch.Generator().manual_seed(2)
    for name in ("obs", "delta", "action"):
        mean, std = getattr(ensemble, f"{name}_mean"), getattr(ensemble, f"{name}_std")
        mean.copy_(0.1 * torch.randn(mean.shape, generator=generator))
        std.copy_(0.5 + torch.rand(std.shape, generator=generator))
    if bounded:
        ensemble.obs_low.fill_(-0.3)
        ensemble.obs_high.fill_(0.4)
    return bind_agent(ensemble, agent)


def inputs(shape, candidates=37, steps=6):
    rng = np.random.default_rng(0)
    obs = rng.normal(size=(shape.members, candidates, shape.obs_dim)).astype(np.float32)
    if shape.n_actions:
        return obs, rng.integers(shape.n_actions, size=(candidates, steps))
    return obs, rng.uniform(-1, 1, (candidates, steps, shape.action_dim)).astype(np.float32)


def one_by_one(dynamics, obs, actions):
    following = []
    for t in range(actions.shape[1]):
        obs = dynamics(obs, actions[:, t])
        following.append(obs)
    return np.stack(following, axis=2)


@pytest.fixture
def float32(monkeypatch):
    monkeypatch.setattr(networks, "byte_products", lambda: None)


@pytest.mark.parametrize("bounded", [False, True])
@pytest.mark.parametrize("name", SHAPES)
def test_a_rollout_equals_the_calls(name, bounded, float32):
    dynamics = drawn(SHAPES[name], bounded)
    obs, actions = inputs(SHAPES[name])
    expected = one_by_one(dynamics, obs, actions)
    ahead = dynamics.rollout(obs, actions)
    assert ahead.shape == expected.shape
    np.testing.assert_allclose(ahead, expected, rtol=2e-5, atol=2e-5)
    if bounded:
        assert expected.min() == np.float32(-0.3) and expected.max() == np.float32(0.4)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("name", ["silu", "deep"])
def test_threads_do_not_change_a_rollout(name, threads, float32, torch_threads):
    dynamics = drawn(SHAPES[name])
    obs, actions = inputs(SHAPES[name], 1100)
    alone = dynamics.rollout(obs, actions)
    torch_threads(threads)
    np.testing.assert_allclose(dynamics.rollout(obs, actions), alone, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("members", "candidates", "threads"), [(5, 200, 2), (1, 7, 3), (3, 1000, 2), (5, 1, 2)])
def test_pieces_are_everything_once_in_equal_shares(members, candidates, threads):
    done = np.zeros((members, candidates))
    for member, rows in split_pieces(members, candidates, threads, 144, 16):
        assert 0 < len(done[member, rows]) <= 144 and rows.start % 16 == 0
        done[member, rows] += 1
    assert (done == 1).all()


@pytest.mark.parametrize("name", ["relu", "silu", "deep", "deep, relu", "odd widths"])
@pytest.mark.parametrize("of_bytes", [False, pytest.param(True, marks=needs_bytes)])
def test_what_is_not_finite_stays_so_and_spoils_no_other_candidate(name, of_bytes, monkeypatch):
    monkeypatch.setattr(networks, "byte_products", lambda: byte_products() if of_bytes else None)
    dynamics = drawn(SHAPES[name], bounded=True)
    obs, actions = inputs(SHAPES[name])
    clean = dynamics.rollout(obs, actions)
    obs[0, 5, 0] = np.nan
    spoiled = dynamics.rollout(obs, actions)
    assert np.isnan(spoiled[0, 5]).all()
    others = np.arange(len(actions)) != 5
    np.testing.assert_allclose(spoiled[:, others], clean[:, others], rtol=1e-6, atol=1e-6)


@pytest.mark.slow
@pytest.mark.skipif("+avx2" not in cpu_features(), reason="the processor has no AVX2")
def test_processors_without_avx512_pass_these_tests_too():
    """The tests of bytes anew, in kernels compiled for such a processor."""
    allowed = ",".join(sorted(f for f in cpu_features() if f.startswith("+") and not f.startswith("+avx512")))
    chosen = "-m", "not slow", "-k", "bytes or finite or far_below", __file__
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *chosen],
        env={**os.environ, "NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": allowed},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "skipped" not in done.stdout


@needs_bytes
@pytest.mark.parametrize("name", ["deep", "deep, relu", "odd widths"])
@pytest.mark.parametrize("part", ["state", "action"])
@pytest.mark.parametrize("layer", [0, -1])
def test_a_weight_that_is_no_number_gives_predictions_that_are_none(name, part, layer):
    model = drawn(SHAPES[name])._model
    getattr(model, f"{part}_encoder").layers[layer].weight.data[0, 0, 1] = np.nan
    obs, actions = inputs(SHAPES[name])
    dynamics = bind_agent(model, 1)
    following = dynamics.rollout(obs, actions)
    np.testing.assert_array_equal(np.isfinite(following), np.isfinite(one_by_one(dynamics, obs, actions)))
    assert not np.isfinite(following[0]).all() and np.isfinite(following[1]).all()


@pytest.mark.parametrize("of_bytes", [False, pytest.param(True, marks=needs_bytes)])
def test_units_far_below_zero_are_off(of_bytes, monkeypatch):
    monkeypatch.setattr(networks, "byte_products", lambda: byte_products() if of_bytes else None)
    model = drawn(SHAPES["deep"])._model
    model.state_encoder.layers[0].bias.data[:, 0, 3] = -1e8
    obs, actions = inputs(SHAPES["deep"])
    dynamics = bind_agent(model, 1)
    expected = dynamics(obs, actions[:, 0])
    np.testing.assert_allclose(
        dynamics.rollout(obs, actions[:, :1])[:, :, 0], expected, atol=2e-3 if of_bytes else 1e-5
    )


@pytest.mark.parametrize("of_bytes", [False, True])
@pytest.mark.parametrize(
    "known",
    [
        "+avx2,+fma",
        "+avx2,+avx512f",
        "+avx2,+avx512f,+avx512bw,+avx512dq,+avx512vl",  # Skylake-X
        "+avx2,+avx512f,+avx512vnni",
        "+avx512vnni",
    ],
)
def test_sums_fit_the_instructions_of_any_processor(known, of_bytes, monkeypatch):
    monkeypatch.setattr(config, "CPU_FEATURES", known)
    module = ir.Module()
    held = (ir.IntType(32) if of_bytes else REAL).as_pointer()
    real = REAL.as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [held, real, held, real, real, real, INT, INT, INT])
    function = ir.Function(module, kind, "layer")
    builder = ir.IRBuilder(function.append_basic_block())
    x, steps, *others, inputs, outputs, rows = function.args
    _emit_blocks(builder, (x, steps if of_bytes else None, *others), (inputs, outputs, rows), lambda values: values)
    builder.ret_void()
    parse_assembly(str(module)).verify()


def test_bytes_are_left_alone_where_numba_may_not_multiply_them(monkeypatch):
    monkeypatch.setattr(config, "CPU_FEATURES", "+avx512f,+avx512vnni")
    assert byte_products() == VNNI
    monkeypatch.setattr(config, "CPU_FEATURES", "+avx,+avx2,+fma")
    assert byte_products() == AVX2
    monkeypatch.setattr(config, "CPU_FEATURES", "")  # as NUMBA_CPU_NAME=generic sets it
    assert byte_products() is None


@needs_bytes
@pytest.mark.parametrize("count", [1, 8, 9, 16, 21])
def test_bytes_of_a_candidate_do_not_depend_on_how_many_are_beside_it(count):
    dynamics = drawn(SHAPES["deep"])
    obs, actions = inputs(SHAPES["deep"], 64)
    np.testing.assert_array_equal(
        dynamics.rollout(obs[:, -count:], actions[-count:]), dynamics.rollout(obs, actions)[:, -count:]
    )


@needs_bytes
@pytest.mark.parametrize("name", ["deep", "deep, relu", "odd widths", "linear action encoder", "deep learned task"])
def test_bytes_move_predictions_by_little(name):
    shape = SHAPES[name]
    obs, actions = inputs(shape, 200, 10)
    dynamics = drawn(shape)
    plain = one_by_one(dynamics, obs, actions)
    error = np.abs(dynamics.rollout(obs, actions) - plain).max(axis=(0, 1, 3))
    assert 1e-5 < error[0] < 0.015 * plain.std()
    assert error[-1] < 0.1 * plain.std()


@needs_bytes
@pytest.mark.parametrize("silu", [False, True])
def test_a_layer_of_bytes_is_the_exact_sum_of_their_products(silu):
    rng = np.random.default_rng(0)
    lowest = SILU_LOWEST if silu else 0.0
    values = rng.uniform(lowest, 3, size=(16, LANES)).astype(np.float32)
    values[:, 3] = lowest  # a lane in which no unit is on
    values[:, 4] = 3.0  # and one in which all are on as far as can be
    weight = torch.randn((1, 16, 16), generator=torch.Generator().manual_seed(0))
    weight[..., 0], weight[..., 1] = 1.0, -1.0  # the largest sums of products
    levels = in_bytes(weight, torch.eye(16)[None], byte_products().most).levels[0].numpy()
    scales, biases = rng.uniform(0.1, 1, size=(2, 16)).astype(np.float32)
    out = np.empty((16, LANES), dtype=np.float32)
    words, steps = layer_of_bytes(values, pack_weights(levels), scales, biases, np.float32(lowest), out)
    np.testing.assert_allclose(steps, np.maximum(values.max(axis=0) - lowest, 1e-30) / BYTE_LEVELS, rtol=1e-6)
    held = words.view(np.uint8).reshape(2, 2, LANES, 2, 2).transpose(0, 3, 1, 4, 2).reshape(16, LANES)
    np.testing.assert_array_equal(held, np.rint((values - np.float32(lowest)) / steps))
    assert (held[:, 4] == BYTE_LEVELS).all()
    expected = (levels.T.astype(np.int64) @ held.astype(np.int64)) * scales[:, None] * steps + biases[:, None]
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-5)


@needs_bytes
@pytest.mark.parametrize("wrong", [[np.nan, 1.0], [np.inf, np.nan], [np.inf, 1.0], [-np.inf, 1.0]])
def test_a_layer_of_bytes_forgets_no_unit_that_is_not_finite(wrong):
    values = np.random.default_rng(0).uniform(0, 3, size=(16, LANES)).astype(np.float32)
    values[3:5, 2] = wrong  # numbers follow
    levels = np.ones((16, 16), dtype=np.int8)
    out = np.empty((16, LANES), dtype=np.float32)
    layer_of_bytes(values, pack_weights(levels), *np.ones((2, 16), dtype=np.float32), np.float32(0.0), out)
    assert np.isnan(out[:, 2]).all() and np.isfinite(np.delete(out, 2, axis=1)).all()


@njit
def layer_of_bytes(values, weights, scales, biases, lowest, out):
    words, steps = np.empty((4, LANES), dtype=np.int32), np.empty(LANES, dtype=np.float32)
    quantize_activations(values, words, steps, 16, lowest)
    dense(words, steps, weights, 0, scales, biases, 0, out, 4, 16, LANES, np.float32(-np.inf), False)
    return words, steps


def in_bytes(weight, seen, most=None):
    """A layer without biases, in levels, whose inputs nothing was lost of."""
    return quantize_layer(weight, torch.zeros(len(weight), weight.shape[2]), seen, seen @ weight, most)


def off(found, seen, wanted):
    """Root mean square of what a layer in levels answers too much or too little."""
    return (torch.baddbmm(found.bias[:, None], seen, found.values()) - wanted).square().mean().sqrt()


def sums_of_16_bits(levels):
    """Of the levels above zero and of those below, [2, M, groups, outputs]."""
    together = levels.reshape(len(levels), -1, SUMMED_BYTES, levels.shape[2]).astype(np.int64)
    return np.stack([side.sum(axis=2) for side in (together.clip(min=0), -together.clip(max=0))])


def test_levels_that_are_added_up_in_16_bits_fit():
    weight = torch.randn((2, 48, 8), generator=torch.Generator().manual_seed(0))
    weight += torch.tensor([1.0, -1.0] * 4)
    hidden = torch.relu(torch.randn((2, 300, 48), generator=torch.Generator().manual_seed(1)))
    found, free = in_bytes(weight, hidden, AVX2.most), in_bytes(weight, hidden)
    assert (sums_of_16_bits(found.levels.numpy()).max(axis=(1, 2, 3)) == AVX2.most).all()
    assert AVX2.most * BYTE_LEVELS < 2**15
    assert sums_of_16_bits(free.levels.numpy()).max() > AVX2.most


def test_networks_keep_levels_within_what_is_added_up_in_16_bits(monkeypatch):
    monkeypatch.setattr(networks, "byte_products", lambda: AVX2)
    generator = torch.Generator().manual_seed(0)
    layers = [
        (torch.randn((2, inputs, outputs), generator=generator) + 1.0, torch.zeros(2, outputs))
        for inputs, outputs in ((3, 21), (21, 13), (13, 5))
    ]
    made = deep_network(layers, torch.randn((2, 100, 3), generator=generator), silu=True, products=AVX2)
    bytes_of = made.rest.view(np.int8).reshape(2, -1, 2, UNITS, 2, 2)  # pairs of words; halves of a word, bytes of each
    together = bytes_of.astype(np.int64).swapaxes(2, 3)
    above, below = (side.sum(axis=(3, 5)) for side in (together.clip(min=0), -together.clip(max=0)))
    assert 0 < below.max() <= AVX2.most and AVX2.most - 8 < above.max() <= AVX2.most


@pytest.mark.parametrize("kind", ["alike", "of one size", "uniform", "above zero", "an output alike"])
@pytest.mark.parametrize("units", [8, 64])
def test_levels_that_are_added_up_in_16_bits_lose_little(kind, units):
    """Weights of which many are near the largest: the limit would bind all along."""
    generator = torch.Generator().manual_seed(0)
    weight = 2 * torch.rand((2, units, 8), generator=generator) - 1
    weight = {
        "alike": torch.ones_like(weight),
        "of one size": weight.sign(),
        "uniform": weight,
        "above zero": weight + 1,
        "an output alike": weight[:, :1] + 0.1 * weight,
    }[kind]
    hidden = torch.relu(torch.randn((2, 300, units), generator=generator))
    wanted = hidden @ weight
    assert off(in_bytes(weight, hidden, AVX2.most), hidden, wanted) < 0.02 * wanted.std()


def test_words_hold_four_bytes_each_and_two_of_them_eight_inputs():
    levels = np.random.default_rng(0).integers(-127, 128, size=(3, 16, 16)).astype(np.int8)
    words = pack_weights(levels).reshape(3, 16 // UNITS, 4, UNITS)  # blocks of outputs, words of 4 inputs
    for block in range(16 // UNITS):
        for word in range(4):
            held = np.ascontiguousarray(words[:, block, word]).view(np.int8).reshape(3, UNITS, 4)
            inputs = 8 * (word // 2) + 2 * (word % 2) + np.array([0, 1, 4, 5])
            expected = levels[:, inputs, UNITS * block : UNITS * (block + 1)].swapaxes(1, 2)
            np.testing.assert_array_equal(held, expected)


def test_rounding_makes_up_for_what_it_loses():
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn((2, 96, 8), generator=generator)
    hidden = torch.randn((2, 500, 6), generator=generator) @ torch.randn((2, 6, 96), generator=generator)
    inputs = torch.relu(hidden)  # units that depend on each other, as in a network
    found = in_bytes(weight, inputs)
    assert found.levels.dtype == torch.int8 and found.levels.abs().max() == 127
    nearest = (weight / found.scale[:, None]).round() * found.scale[:, None]
    assert off(found, inputs, inputs @ weight) < 0.45 * (inputs @ (nearest - weight)).square().mean().sqrt()


def test_rounding_makes_up_for_what_its_inputs_have_lost():
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn((2, 96, 8), generator=generator)
    hidden = torch.randn((2, 500, 6), generator=generator) @ torch.randn((2, 6, 96), generator=generator)
    inputs = torch.relu(hidden)
    seen = 0.9 * inputs + 0.05  # what a rounding before it might have made of them
    told, untold = (quantize_layer(weight, torch.zeros(2, 8), x, inputs @ weight) for x in (seen, inputs))
    assert off(told, seen, inputs @ weight) < 0.1 * off(untold, seen, inputs @ weight)


def test_a_layer_that_answers_nothing_finite_keeps_its_biases():
    weight, bias = torch.ones(1, 8, 2), torch.tensor([[0.5, 0.25]])
    wanted = torch.zeros(1, 20, 2)
    wanted[0, 3, 1] = torch.inf
    found = quantize_layer(weight, bias, torch.ones(1, 20, 8), wanted)
    torch.testing.assert_close(found.values(), weight)
    torch.testing.assert_close(found.bias, torch.tensor([[-8.0, 0.25]]))


def uneven(generator):
    """A ReLU network with units of very different size, one of them never on, and inputs of it."""
    sizes = torch.randn((2, 40), generator=generator).mul(1.5).exp()
    shapes = ((2, 6, 40), (2, 40, 40), (2, 40, 3))
    layers = [(torch.randn(s, generator=generator) / s[1] ** 0.5, torch.zeros(2, s[2])) for s in shapes]
    layers[0] = layers[0][0] * sizes[:, None], layers[0][1]
    layers[1] = layers[1][0] / sizes[..., None], layers[1][1]
    layers[1][0][:, :, 5] = 0.0
    return layers, torch.randn((2, 400, 6), generator=generator)


def answers(layers, x):
    for i, (weight, bias) in enumerate(layers):
        x = torch.baddbmm(bias[:, None], x, weight)
        x = torch.relu(x) if i < len(layers) - 1 else x
    return x


def answers_in_levels(first, rest, x):
    x = torch.baddbmm(first[1][:, None], x, first[0])
    for layer in rest:
        x = torch.baddbmm(layer.bias[:, None], quantize_rows(torch.relu(x), 0.0), layer.values())
    return x


def test_evened_networks_are_the_same_and_lose_less_to_bytes(monkeypatch):
    layers, x = uneven(torch.Generator().manual_seed(0))
    even = equalize_units(layers, x)
    torch.testing.assert_close(answers(even, x), answers(layers, x), rtol=1e-4, atol=1e-4)
    lost = (answers_in_levels(*quantize_network(layers, x, None, None), x) - answers(layers, x)).square().mean()
    monkeypatch.setattr("persim_gym.simulator.kernels.quantization.equalize_units", lambda layers, examples: layers)
    before = (answers_in_levels(*quantize_network(layers, x, None, None), x) - answers(layers, x)).square().mean()
    assert lost < 0.5 * before


def test_rounding_is_fitted_to_what_a_model_predicts_itself():
    model = drawn(SHAPES["deep"])._model
    obs, actions = networks._examples(model)
    members, size = model.config.members, networks.EXAMPLE_ROLLOUTS * networks.EXAMPLE_STEPS
    assert obs.shape == (members, size, model.config.obs_dim) and actions.shape[:2] == (members, size)
    assert obs.isfinite().all()
    agents = torch.arange(networks.EXAMPLE_ROLLOUTS) % model.config.n_agents
    before, after = (
        obs[:, : networks.EXAMPLE_ROLLOUTS],
        obs[:, networks.EXAMPLE_ROLLOUTS : 2 * networks.EXAMPLE_ROLLOUTS],
    )
    following = model.predict(agents, before, actions[0, : networks.EXAMPLE_ROLLOUTS])
    torch.testing.assert_close(after, following[..., : model.config.obs_dim])


@pytest.mark.parametrize("change", [torch.nan, torch.inf, 1e6])
def test_rounding_is_not_fitted_to_predictions_that_lose_themselves(change):
    model = drawn(SHAPES["deep"])._model
    model.delta_mean[1] = change
    obs, _ = networks._examples(model)
    assert ((obs - model.obs_mean).abs() <= networks.MAX_DISTANCE * model.obs_std).all()


def test_rounding_to_inputs_that_do_not_depend_on_each_other_is_to_the_nearest():
    weight = torch.randn((1, 40, 8), generator=torch.Generator().manual_seed(0))
    signs = torch.tensor([[1.0]])
    while len(signs) < 64:  # columns of a Hadamard matrix: without mean, and orthogonal
        signs = torch.cat([torch.cat([signs, signs], 1), torch.cat([signs, -signs], 1)])
    found = in_bytes(weight, signs[None, :, 1:41])
    torch.testing.assert_close(found.levels.float(), (weight / found.scale[:, None]).round())


@pytest.mark.parametrize("width", [512, 1024])
def test_rounding_takes_a_layer_that_one_example_decides(width):
    """The covariance is nearly singular: in float32 its root may not exist."""
    generator = torch.Generator().manual_seed(0)
    x = torch.relu(torch.randn((1, 2048, width), generator=generator))
    x[:, 1:] = 0.0
    weight = torch.randn((1, width, 8), generator=generator) / width**0.5
    wanted = x @ weight
    assert off(in_bytes(weight, x, AVX2.most), x, wanted) < 0.01 * wanted.std()


def test_rounding_is_fitted_to_inputs_that_are_rounded_themselves(monkeypatch):
    monkeypatch.setattr("persim_gym.simulator.kernels.quantization.BYTE_LEVELS", 15)  # so coarse that it shows
    layers, x = uneven(torch.Generator().manual_seed(0))
    wanted = answers(layers, x)

    def lost():
        first, rest = quantize_network(layers, x, None, None)
        monkeypatch.undo()
        monkeypatch.setattr("persim_gym.simulator.kernels.quantization.BYTE_LEVELS", 15)
        return (answers_in_levels(first, rest, x) - wanted).square().mean()

    fitted = lost()
    monkeypatch.setattr("persim_gym.simulator.kernels.quantization.quantize_rows", lambda values, lowest: values)
    assert fitted < 0.9 * lost()


def test_rounding_takes_units_that_are_never_on():
    found = in_bytes(torch.ones(1, 8, 8), torch.zeros(1, 20, 8))
    torch.testing.assert_close(found.values(), torch.ones(1, 8, 8))


def test_networks_are_shared_by_agents_and_made_anew_when_a_weight_changes():
    ensemble = drawn(SHAPES["deep"])._model
    first = networks.folded_networks(ensemble)
    assert networks.folded_networks(ensemble) is first
    obs, actions = inputs(SHAPES["deep"])
    before = bind_agent(ensemble, 1).rollout(obs, actions)
    ensemble.state_encoder.layers[-1].bias.data.numpy()[:] += 1.0  # behind PyTorch's back
    assert networks.folded_networks(ensemble) is not first
    now = bind_agent(ensemble, 1)
    np.testing.assert_allclose(now.rollout(obs, actions)[:, :, 0], now(obs, actions[:, 0]), atol=0.1)
    assert np.abs(now.rollout(obs, actions) - before).max() > 0.5


@pytest.mark.parametrize(
    "part", ["obs_mean", "obs_std", "action_mean", "action_std", "delta_mean", "delta_std", "obs_high", "agent_encoder"]
)
def test_networks_are_made_anew_when_what_they_were_fitted_to_changes(part):
    ensemble = drawn(SHAPES["deep"], bounded=True)._model
    first = networks.folded_networks(ensemble)
    changed = getattr(ensemble, part)
    for values in changed.parameters() if part == "agent_encoder" else (changed,):
        values.data.mul_(0.5).add_(0.25)
    assert networks.folded_networks(ensemble) is not first


def test_networks_are_made_anew_for_another_processor(monkeypatch):
    ensemble = drawn(SHAPES["deep"])._model
    monkeypatch.setattr(networks, "byte_products", lambda: AVX2)
    assert networks.folded_networks(ensemble)[0].per == 4
    monkeypatch.setattr(networks, "byte_products", lambda: None)
    assert networks.folded_networks(ensemble)[0].per == 1


def test_networks_are_made_once_and_the_same_on_any_number_of_threads(torch_threads, monkeypatch):
    shape = ModelConfig(4, 6, 0, 2, 3, 2, (256, 256), (16,), "silu")
    made = []
    build = networks._networks
    monkeypatch.setattr(networks, "_networks", lambda model: made.append(build(model)) or made[-1])
    for number in (1, 3):
        torch_threads(number)
        model = drawn(shape)._model
        run_each(lambda item, model=model: networks.folded_networks(model), range(number))
    alone, together = made  # one a model, however many threads ask
    np.testing.assert_array_equal(together[0].rest, alone[0].rest)


@pytest.mark.parametrize("agents", [[2] * 7, [0, 1, 0, 2, 3, 3, 0]], ids=["one agent", "four agents"])
@pytest.mark.parametrize("name", ["relu", "deep, discrete", "deep"])
def test_threads_that_take_whole_tiles_do_not_change_returns(name, agents, float32, monkeypatch, torch_threads):
    shape = SHAPES[name]
    models = [drawn(shape, agent=agent) for agent in range(4)]
    obs, actions = inputs(shape, 7 * 30)
    obs, actions = obs[0, :7], actions.reshape(7, 30, *actions.shape[1:])
    dynamics = [models[agent] for agent in agents]
    monkeypatch.setattr(rollout, "TILE_ROWS", 16)
    alone = rollout_returns(dynamics, FIRST, obs, actions)
    torch_threads(3)
    np.testing.assert_allclose(rollout_returns(dynamics, FIRST, obs, actions), alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("concurrent", [True, False])
def test_only_dynamics_that_say_so_are_called_from_other_threads(concurrent, monkeypatch, torch_threads):
    seen = set()

    class Still(PlanningDynamics):
        fused = True

        def rollout(self, obs, actions, ends=None, live=None):
            seen.add(threading.current_thread())
            return np.repeat(obs[:, :, None], actions.shape[1], axis=2)

    dynamics = Still()
    dynamics.concurrent = concurrent
    torch_threads(2)
    monkeypatch.setattr(rollout, "TILE_ROWS", 5)
    rollout_returns(dynamics, FIRST, np.zeros((3, 2)), np.zeros((3, 10, 4), dtype=np.int64))
    assert (MAIN in seen) != concurrent


@pytest.mark.parametrize("tile", [0, -5])
def test_dynamics_that_say_an_impossible_tile_are_refused(tile):
    still = PlanningDynamics()
    still.tile = tile
    with pytest.raises(ValueError, match="must be a whole number of rows"):
        rollout_returns(still, FIRST, np.zeros((3, 2)), np.zeros((3, 10, 4), dtype=np.int64))


def test_each_item_is_worked_on_once_and_an_error_in_one_is_raised(torch_threads):
    torch_threads(2)
    done = []
    run_each(done.append, range(5))
    assert sorted(done) == [0, 1, 2, 3, 4]
    with pytest.raises(ZeroDivisionError):
        run_each(lambda item: 1 // item, [1, 0, 2, 3])


def test_rollouts_refuse_what_does_not_fit():
    discrete, continuous = drawn(SHAPES["relu"]), drawn(SHAPES["deep"])
    obs, actions = inputs(SHAPES["relu"])
    with pytest.raises(ValueError, match="expected actions of 0–1"):
        discrete.rollout(obs, actions + 1)
    with pytest.raises(ValueError, match=r"observations \(2, 36, 2\) and actions \(37, 6\) do not fit"):
        discrete.rollout(obs[:, 1:], actions)
    with pytest.raises(ValueError, match="do not fit"):
        continuous.rollout(inputs(SHAPES["deep"])[0], actions)


@pytest.mark.parametrize("name", ["relu", "learned task", "deep, discrete", "deep"])
def test_calls_refuse_observations_of_another_size(name):
    shape = SHAPES[name]
    obs, actions = inputs(shape)
    with pytest.raises((ValueError, RuntimeError)):
        drawn(shape)(obs[..., :-1], actions[:, 0])
    with pytest.raises(ValueError, match="do not fit"):
        drawn(shape).rollout(obs[..., :-1], actions)


@pytest.mark.parametrize("name", ["mountaincar", "cartpole"])
def test_trained_simulators_rank_candidates_as_the_plain_calls_do(name):
    domain, dynamics = DOMAINS[name], load_simulator(f"{name}/random-v0").dynamics(3)

    plain = FunctionDynamics(dynamics, dynamics.members)
    rng = np.random.default_rng(0)
    obs = domain.observe(domain.initial_state(rng, 3)).astype(np.float32)
    actions = rng.integers(domain.action_space.n, size=(3, 300, 50))
    objective = Objective(domain.peak_bonus)
    fused = rollout_returns(dynamics, domain.task, obs, actions, objective)
    reference = rollout_returns(plain, domain.task, obs, actions, objective)
    for ours, theirs in zip(fused, reference, strict=True):
        assert len(set(best_first(ours, 40)) & set(best_first(theirs, 40))) >= 38
        assert np.isclose(ours, theirs, rtol=1e-4, atol=1e-4).mean() > 0.97  # the others end a step earlier or later


@pytest.mark.parametrize("name", ["relu", "silu", "deep", "deep, relu"])
def test_rows_planned_together_are_planned_as_alone(name):
    shape = SHAPES[name]
    agents = drawn(shape), drawn(shape, bounded=True)
    models = [agents[row % 2] for row in range(5)]
    low = Task(lambda obs, action, next_obs: next_obs.sum(axis=-1), lambda next_obs: next_obs[..., 0] > 1.5)
    obs = np.random.default_rng(0).normal(size=(5, shape.obs_dim)).astype(np.float32)
    _, actions = inputs(shape, 5 * 300, 25)
    actions = actions.reshape(5, 300, *actions.shape[1:])
    together = rollout_returns(models, low, obs, actions)
    for row, model in enumerate(models):
        np.testing.assert_allclose(rollout_returns(model, low, obs[row], actions[row]), together[row], rtol=1e-6)
    planner = RandomShooting(200, 25) if shape.n_actions else CEM(100, 25, 2, 20)
    space = spaces.Discrete(shape.n_actions) if shape.n_actions else spaces.Box(-1, 1, (shape.action_dim,))
    plans = planner.plan(models, low, obs, space, [np.random.default_rng(row) for row in range(5)])
    for row, plan in enumerate(plans):
        (alone,) = planner.plan(models[row], low, obs[row], space, np.random.default_rng(row))
        np.testing.assert_allclose(alone.sequence, plan.sequence, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["learned task", "deep learned task"])
def test_planners_plan_where_reward_and_termination_are_learned(name, float32):
    shape = SHAPES[name]
    dynamics = drawn(shape)
    learned = Task(lambda obs, action, next_obs: next_obs[..., -2], lambda next_obs: next_obs[..., -1] > 1.0)
    obs = np.random.default_rng(0).normal(size=shape.obs_dim).astype(np.float32)
    _, actions = inputs(shape, 40, 25)

    plain = FunctionDynamics(dynamics, shape.members)
    expected = rollout_returns(plain, learned, obs, actions)
    np.testing.assert_allclose(rollout_returns(dynamics, learned, obs, actions), expected, rtol=1e-3, atol=1e-3)
