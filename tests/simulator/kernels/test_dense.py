"""Layers in bytes: exact sums of products, on the instructions of any processor."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from llvmlite import ir
from llvmlite.binding import parse_assembly
from numba import njit
from numba.core import config
from support.rollouts import in_bytes, needs_bytes

from persim_gym.simulator.kernels.deep_weights import SILU_LOWEST
from persim_gym.simulator.kernels.dense import (
    AVX2,
    BYTE_LEVELS,
    UNITS_PER_BLOCK,
    VNNI,
    _emit_blocks,
    byte_products,
    cpu_features,
    dense,
    pack_weights,
    quantize_activations,
)
from persim_gym.simulator.kernels.simd import INT, LANES, REAL

HERE = Path(__file__).parent
TESTS_OF_BYTES = HERE / "test_dense.py", HERE / "test_quantization.py", HERE.parent / "dynamics" / "test_agent.py"


@pytest.mark.slow
@pytest.mark.skipif("+avx2" not in cpu_features(), reason="the processor has no AVX2")
def test_processors_without_avx512_pass_these_tests_too():
    """The tests of bytes anew, in kernels compiled for such a processor."""
    allowed = ",".join(sorted(f for f in cpu_features() if f.startswith("+") and not f.startswith("+avx512")))
    chosen = "-m", "not slow", "-k", "bytes or finite or far_below", *TESTS_OF_BYTES
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *chosen],
        env={**os.environ, "NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": allowed},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "skipped" not in done.stdout


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
@pytest.mark.parametrize("silu", [False, True])
def test_a_layer_of_bytes_is_the_exact_sum_of_their_products(silu):
    rng = np.random.default_rng(0)
    lowest = SILU_LOWEST if silu else 0.0
    values = rng.uniform(lowest, 3, size=(16, LANES)).astype(np.float32)
    values[:, 3] = lowest  # a lane in which no unit is on
    values[:, 4] = 3.0  # and one in which all are on as far as can be
    weight = torch.randn((1, 16, 16), generator=torch.Generator().manual_seed(0))
    weight[..., 0], weight[..., 1] = 1.0, -1.0  # the largest sums of products
    levels = in_bytes(weight, torch.eye(16)[None], byte_products().max_level_sum).levels[0].numpy()
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
    quantize_activations(values, words, steps, lowest)
    dense(words, steps, weights, scales, biases, out, LANES, np.float32(-np.inf), False)
    return words, steps


def test_words_hold_four_bytes_each_and_two_of_them_eight_inputs():
    levels = np.random.default_rng(0).integers(-127, 128, size=(3, 16, 16)).astype(np.int8)
    # Blocks of outputs, words of 4 inputs.
    words = pack_weights(levels).reshape(3, 16 // UNITS_PER_BLOCK, 4, UNITS_PER_BLOCK)
    for block in range(16 // UNITS_PER_BLOCK):
        for word in range(4):
            held = np.ascontiguousarray(words[:, block, word]).view(np.int8).reshape(3, UNITS_PER_BLOCK, 4)
            inputs = 8 * (word // 2) + 2 * (word % 2) + np.array([0, 1, 4, 5])
            expected = levels[:, inputs, UNITS_PER_BLOCK * block : UNITS_PER_BLOCK * (block + 1)].swapaxes(1, 2)
            np.testing.assert_array_equal(held, expected)
