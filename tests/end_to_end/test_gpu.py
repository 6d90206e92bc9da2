"""Training, prediction and planning on a CUDA device: where tensors are, what comes out, and what is waited for.

The device is a pretended one (see `support/pretend_gpu.py`).
"""

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from support.pretend_gpu import pretend_gpu
from support.recipes import TINY
from support.walls import SHAPES, bouncing, walled

from persim_gym.planning import CEM, CategoricalCEM, rollout_returns
from persim_gym.simulator.diagnostics.metrics import logged_error
from persim_gym.simulator.diagnostics.nearest_residuals import NearestResiduals
from persim_gym.simulator.dynamics.batch import BatchDynamics
from persim_gym.simulator.dynamics.bind import bind_agent
from persim_gym.simulator.load import read_simulator
from persim_gym.simulator.simulator import Simulator
from persim_gym.simulator.training import trainer as fit_module
from persim_gym.simulator.training.engine import EnsembleTraining
from persim_gym.simulator.training.torch_engine import TorchEngine
from persim_gym.simulator.training.trainer import fit_ensemble
from persim_gym.task import Ends, Task, never
from persim_gym.transition_store import write_transitions
from persim_gym.workflows.train import train
from persim_gym.wrappers import latent_factors

SHORT = replace(TINY, epochs=3)
RECIPES = {
    "small": SHORT,
    "small, silu": replace(SHORT, activation="silu", schedule="one-cycle"),
    "deep": replace(SHORT, state_layers=(16, 16)),
    "pull and interaction": replace(SHORT, pull=0.1, interaction=0.1),
    "noise and decay": replace(SHORT, noise=0.05, weight_decay=0.1),
    "one member": replace(SHORT, members=1),
}


@pytest.fixture
def gpu():
    with pretend_gpu() as gpu:
        yield gpu


@pytest.fixture(scope="module")
def few(cars):
    """A quarter of the cars' transitions, of each of the six."""
    return cars.select(np.arange(len(cars)) % 4 == 0)


def same(one, other, **tolerance):
    """Whether two models have the same weights and buffers, and the first is on the CPU."""
    for (name, ours), theirs in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        assert ours.device.type == "cpu", name
        torch.testing.assert_close(ours, theirs, msg=name, **tolerance or {"rtol": 0, "atol": 0})


def watched(monkeypatch, gpu):
    """Checks at every part of an epoch that all that training goes on from is on the device; returns the parts seen."""
    train, seen = fit_module._train_part, []

    def check(engine, *rest):
        loss = train(engine, *rest)
        (whole,) = engine._engines
        model = whole._model
        everything = [*model.parameters(), *model.buffers(), *engine.state().values(), *whole._data]
        assert all(x.is_cuda and gpu.holds(x) for x in everything)
        seen.append(loss)
        return loss

    monkeypatch.setattr(fit_module, "_train_part", check)
    return seen


# --- the pretended device -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "mixed",
    [
        lambda there, here: there + here,
        lambda there, here: here.add_(there),
        lambda there, here: torch.cat([there, here]),
        lambda there, here: torch.sum(torch.stack([there, there]), 0, out=here),
        lambda there, here: there.index_select(0, (here * 0).long()),
        lambda there, here: here[there.long() - 1],
        lambda there, here: torch.where(here > 0, there, 0.0),
    ],
)
def test_devices_do_not_mix(gpu, mixed):
    there, here = torch.ones(1, device="cuda"), torch.zeros(1)
    with pytest.raises(RuntimeError, match="on the same device"):
        mixed(there, here)
    mixed(there, here.to("cuda")), mixed(there.cpu(), here)


def test_what_is_on_the_device_is_no_numpy_array(gpu):
    there = torch.ones(2, device="cuda")
    for read in (there.numpy, lambda: np.asarray(there), lambda: np.isfinite(there[1:])):
        with pytest.raises(TypeError, match="can't convert cuda:0"):
            read()
    np.testing.assert_array_equal(there.cpu().numpy(), 1.0)


def test_views_and_copies_know_where_they_are(gpu):
    memory = np.zeros(3, dtype=np.float32)
    there = torch.as_tensor(memory, device="cuda")
    there[1:].add_(1.0)
    torch.sum(torch.ones(1, 2, device="cuda"), 1, out=there[:1])
    assert there.tolist() == [2.0, 1.0, 1.0] and not memory.any()
    for x in (there[1:], there.double(), there.new_zeros(2), torch.zeros_like(there), deepcopy(there), there > 0):
        assert x.device == torch.device("cuda:0") and x.is_cuda
    for x in (there.cpu(), there.to("cpu", torch.float64), torch.zeros(2), torch.zeros(2, device="cpu")):
        assert x.device.type == "cpu" and not x.is_cuda
    layer = torch.nn.Linear(3, 1).to("cuda")
    layer(there).backward()
    assert layer.weight.is_cuda and layer.weight.grad.is_cuda and not layer.cpu().weight.is_cuda


def test_what_waits_for_the_device_is_listed(gpu):
    there = torch.ones(3, device="cuda")
    there[there > 0] = 2.0  # CUDA fills in, and counts nothing
    there.mul_(there).index_add_(0, torch.zeros(1, dtype=torch.int64, device="cuda"), there[1:2] + 1.0)
    assert gpu.waits == []
    float(there[0]), there[there > 0], there.tolist(), there.cpu(), torch.tensor(1.0, device="cuda")
    assert len(gpu.waits) == 5


def test_generators_are_of_one_device(gpu):
    with pytest.raises(RuntimeError, match="Expected a generator"):
        torch.randn(2, device="cuda", generator=torch.Generator())
    drawn = torch.randn(2, device="cuda", generator=torch.Generator("cuda").manual_seed(1))
    assert torch.equal(drawn.cpu(), torch.randn(2, generator=torch.Generator().manual_seed(1)))


# --- training -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
@pytest.mark.parametrize("data", ["few", "pushes"])
def test_training_there_ends_with_the_weights_of_here(gpu, request, monkeypatch, data, recipe):
    data = request.getfixturevalue(data)
    data = data.select(np.arange(len(data)) < 150)
    n_actions = 3 if data.action.ndim == 1 else 0
    recipe = recipe if n_actions else replace(recipe, action_layers=(8,))
    expected = fit_ensemble(data, recipe, n_actions=n_actions, device="cpu:0", progress=False)
    seen = watched(monkeypatch, gpu)
    trained = fit_ensemble(data, recipe, n_actions=n_actions, device="cuda", progress=False)
    assert len(seen) == recipe.epochs
    same(trained, expected)
    if not recipe.noise:  # drawn otherwise by other engines
        monkeypatch.undo()
        same(trained, fit_ensemble(data, recipe, n_actions=n_actions, progress=False), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    "options",
    [
        {"learn_task": True},
        {"variant": "unfactorized"},
        {"variant": "unpersonalized"},
        {"bounds": ([-1.2, -0.07], [0.6, 0.07])},
    ],
    ids=str,
)
def test_variants_and_learned_tasks_train_there(gpu, few, monkeypatch, options):
    expected = fit_ensemble(few, SHORT, n_actions=3, device="cpu:0", progress=False, **options)
    watched(monkeypatch, gpu)
    same(fit_ensemble(few, SHORT, n_actions=3, device="cuda", progress=False, **options), expected)


def test_a_large_table_of_agents_trains_there(gpu, few, monkeypatch):
    many, recipe = replace(few, n_agents=200), replace(SHORT, batch=6, pull=0.01)
    expected = fit_ensemble(many, recipe, n_actions=3, device="cpu:0", progress=False)
    watched(monkeypatch, gpu)
    same(fit_ensemble(many, recipe, n_actions=3, device="cuda", progress=False), expected)


def test_walls_are_left_out_there_too(gpu, monkeypatch):
    pucks, recipe = bouncing(), replace(SHORT, walls=True, epochs=2, batch=500)
    expected = fit_ensemble(pucks, recipe, n_actions=2, device="cpu:0", progress=False)
    assert torch.isfinite(expected.walls).any()
    watched(monkeypatch, gpu)
    same(fit_ensemble(pucks, recipe, n_actions=2, device="cuda", progress=False), expected)


def test_data_on_disk_train_there(gpu, cars, tmp_path, monkeypatch):
    data = write_transitions(tmp_path / "cars", [cars] * 4, n_agents=6, source="cars")
    recipe, options = replace(SHORT, epochs=2, batch=200), {"n_actions": 3, "progress": False}
    data.part_rows = 1200
    expected = fit_ensemble(data, recipe, device="cpu:0", **options)
    seen = watched(monkeypatch, gpu)
    same(fit_ensemble(data, recipe, device="cuda", **options), expected)
    assert len(seen) == 4


@pytest.mark.parametrize(("variant", "agents"), [("factored", 6), ("factored", 200), ("unfactorized", 6)])
def test_a_training_that_was_cut_off_there_goes_on_there(gpu, few, tmp_path, monkeypatch, variant, agents):
    data, path = replace(few, n_agents=agents), tmp_path / "training.safetensors"
    options = {"n_actions": 3, "variant": variant, "device": "cuda", "progress": False}
    recipe = replace(SHORT, batch=32 if agents == 6 else 6)
    expected = fit_ensemble(data, recipe, **options)
    train = fit_module._train_part

    def cut_off(engine, recipe, parts, epoch, part):
        if epoch == 2:
            raise KeyboardInterrupt
        return train(engine, recipe, parts, epoch, part)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(fit_module, "_train_part", cut_off)
        fit_ensemble(data, recipe, checkpoint=path, **options)
    seen = watched(monkeypatch, gpu)
    same(fit_ensemble(data, recipe, checkpoint=path, **options), expected)
    assert len(seen) == 1


@pytest.mark.parametrize("order", [("cpu", "cuda"), ("cuda", "cpu")])
def test_a_training_does_not_go_on_in_another_engine(gpu, few, tmp_path, order):
    path = tmp_path / "training.safetensors"
    fit_ensemble(few, SHORT, n_actions=3, device=order[0], checkpoint=path, progress=False)
    with pytest.raises(ValueError, match="another device; go on there, or delete it to start anew"):
        fit_ensemble(few, SHORT, n_actions=3, device=order[1], checkpoint=path, progress=False)


@pytest.mark.parametrize(
    "options", [{}, {"noise": 0.1, "weight_decay": 0.1}, {"sparse": True}, {"variant": "unfactorized"}], ids=str
)
def test_steps_do_not_wait_for_the_device(gpu, options):
    options = dict(options)
    shape = replace(SHAPES["deep, discrete"], variant=options.pop("variant", "factored"))
    model, rng = walled(shape).to("cuda"), np.random.default_rng(0)
    data = [rng.integers(4, size=60), rng.normal(size=(60, 3)), rng.integers(2, size=60), rng.normal(size=(60, 3))]
    data = [torch.as_tensor(x, dtype=torch.int64 if x.ndim == 1 else torch.float32, device="cuda") for x in data]
    sparse = options.pop("sparse", None)
    recipe = replace(TINY, pull=0.1, **options)
    engine = EnsembleTraining([TorchEngine(model, slice(0, 3), recipe, sparse=sparse)], data, side_by_side=False)
    waits = []
    for steps in (2, 12):
        gpu.waits.clear()
        engine.epoch(np.stack([rng.permutation(60)] * shape.members), np.full(steps, 1e-3), 5)
        waits.append(list(gpu.waits))
    assert waits[0] == waits[1]


def test_a_simulator_is_trained_there_from_end_to_end(gpu, cars, tmp_path, home):
    recipe = replace(SHORT, state_layers=(8,), refine=2, polish=True, walls=True)
    options = {"domain": "mountaincar", "recipe": recipe, "progress": False}
    written = [
        train(cars, name=f"mountaincar/{d[:3]}-v0", device=d, out=tmp_path / d[:3], **options)
        for d in ("cuda", "cpu:0")
    ]
    same(written[0].model, written[1].model)
    assert torch.equal(written[0].known_beliefs().mean, written[1].known_beliefs().mean)
    assert written[0].card.error == written[1].card.error


# --- prediction and planning --------------------------------------------------------------------------------------


def rows(shape, count=20, steps=7):
    """Starts [C, D], and actions [C, steps] or [C, steps, A]."""
    rng = np.random.default_rng(0)
    obs = rng.normal(size=(count, shape.obs_dim)).astype(np.float32)
    if shape.n_actions:
        return obs, rng.integers(shape.n_actions, size=(count, steps))
    return obs, rng.uniform(-1, 1, (count, steps, shape.action_dim)).astype(np.float32)


SHAPES = SHAPES | {"unfactorized, continuous": replace(SHAPES["deep"], variant="unfactorized")}
every_shape = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
factored = pytest.mark.parametrize("shape", [s for s in SHAPES.values() if s.variant == "factored"], ids=str)
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


@every_shape
def test_predictions_there_are_those_of_here(gpu, shape):
    here = walled(shape)
    there = deepcopy(here).to("cuda")
    obs, actions = rows(shape)
    agent = torch.arange(20) % 4
    given = agent, torch.from_numpy(obs), torch.from_numpy(actions[:, 0])
    predicted = there.predict(*(x.to("cuda") for x in given))
    assert predicted.is_cuda
    assert torch.equal(predicted.cpu(), here.predict(*given))
    bound, reference = bind_agent(there, 2), bind_agent(here, 2)
    expected = reference(obs, actions[:, 0])
    np.testing.assert_allclose(bound(obs, actions[:, 0]), expected, **CLOSE)
    np.testing.assert_allclose(bound(expected, actions[:, 1]), reference(expected, actions[:, 1]), **CLOSE)
    tensors = bound(*(x.to("cuda") for x in given[1:]))
    assert tensors.is_cuda
    np.testing.assert_allclose(tensors.cpu().numpy(), expected, **CLOSE)
    np.testing.assert_array_equal(there.disagreement(expected), here.disagreement(expected))


@factored
@pytest.mark.parametrize("ends", [None, Ends("any", ((0, ">", 0.5), (1, "<", -2.0)))], ids=["endless", "ends"])
@pytest.mark.parametrize("some", [False, True])
def test_rollouts_there_are_the_steps_of_here(gpu, shape, ends, some):
    here = walled(shape)
    obs, actions = rows(shape)
    now = np.repeat(obs[None], shape.members, axis=0)
    live = np.random.default_rng(1).random(now.shape[:2]) < 0.7 if some else None
    found = bind_agent(deepcopy(here).to("cuda"), 1).rollout(now, actions, ends, live)
    step, running = bind_agent(here, 1), np.ones(now.shape[:2], dtype=bool) if live is None else live.copy()
    first = running.copy()
    now = np.concatenate([now, np.zeros((*now.shape[:2], shape.extra_dim), dtype=np.float32)], axis=2)
    for t in range(actions.shape[1]):
        now = np.where(running[..., None], step(now, actions[:, t]), now)
        np.testing.assert_allclose(found[first][:, t], now[first], rtol=1e-4, atol=1e-4)
        if ends is not None:
            running &= ~ends(now)
    assert np.isfinite(found).all()


@every_shape
def test_returns_and_plans_there_are_those_of_here(gpu, shape):
    here = walled(shape)
    there = deepcopy(here).to("cuda")
    obs, actions = rows(shape, 30, 25)
    task = Task(lambda obs, action, next_obs: next_obs[..., 0] - next_obs[..., 1], Ends("any", ((0, ">", 2.0),)))
    returns = [rollout_returns(bind_agent(m, 1), task, obs[0], actions) for m in (there, here)]
    np.testing.assert_allclose(*returns, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["discrete", "continuous"])
def test_planners_choose_there_what_they_choose_here(gpu, kind):
    here = walled(SHAPES["deep, discrete" if kind == "discrete" else "unfactorized, continuous"])
    planner = {"discrete": CategoricalCEM, "continuous": CEM}[kind](candidates=20, horizon=12, iterations=2, elites=5)
    space = Discrete(2) if kind == "discrete" else Box(-1.0, 1.0, (2,))
    task = Task(lambda obs, action, next_obs: next_obs[..., 0], never)
    plans = [
        planner.plan(bind_agent(model, 1), task, np.zeros((2, 3)), space, [np.random.default_rng(k) for k in range(2)])
        for model in (deepcopy(here).to("cuda"), here)
    ]
    for there, other in zip(*plans, strict=True):
        np.testing.assert_allclose(there.sequence, other.sequence, rtol=1e-4, atol=1e-4)


def test_a_rollout_that_stops_waits_once_a_step(gpu):
    shape = SHAPES["deep, discrete"]
    obs, actions = rows(shape)
    bound = bind_agent(walled(shape).to("cuda"), 1)
    gpu.waits.clear()
    bound.rollout(np.repeat(obs[None], shape.members, axis=0), actions, Ends("any", ((0, ">", 5.0),)))
    assert gpu.waits.count("nonzero") == actions.shape[1]
    assert len(gpu.waits) == actions.shape[1] + 4


def test_a_whole_chunk_of_a_rollout_waits_a_few_times_only(gpu):
    for shape in SHAPES.values():
        bound = bind_agent(walled(shape).to("cuda"), 1)
        if not bound.fused:
            continue
        waits = []
        for steps in (3, 9):
            obs, actions = rows(shape, 20, steps)
            gpu.waits.clear()
            bound.rollout(np.repeat(obs[None], shape.members, axis=0), actions)
            waits.append(list(gpu.waits))
        assert waits[0] == waits[1] and len(waits[0]) <= 3


@every_shape
def test_one_call_waits_for_its_copies_only(gpu, shape):
    bound = bind_agent(walled(shape).to("cuda"), 1)
    obs, actions = rows(shape)
    gpu.waits.clear()
    bound(obs, actions[:, 0])
    assert sorted(gpu.waits) == ["copy from the device", "copy to the device", "copy to the device"]


@pytest.mark.parametrize("name", ["small", "deep, discrete", "unfactorized"])
@pytest.mark.parametrize("wrong", [-1, 2])
def test_actions_that_do_not_exist_never_reach_the_device(gpu, name, wrong):
    """An index out of range ends a CUDA context, and with it the process's use of the device."""
    bound = bind_agent(walled(SHAPES[name]).to("cuda"), 0)
    before = gpu.operations
    with pytest.raises(ValueError, match="expected 2 actions of 0–1"):
        bound(np.zeros((2, 3), dtype=np.float32), np.array([0, wrong]))
    assert gpu.operations == before


# --- simulators ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def simulator(cars, tmp_path_factory) -> Simulator:
    folder, recipe = tmp_path_factory.mktemp("simulator") / "car", replace(SHORT, state_layers=(8, 8))
    options = {"domain": "mountaincar", "recipe": recipe, "out": folder, "progress": False}
    return train(cars, name="mountaincar/there-v0", **options)


def test_a_simulator_there_is_saved_as_one_of_here(gpu, simulator, tmp_path):
    there = replace(simulator, model=deepcopy(simulator.model).to("cuda"))
    there.save(tmp_path / "there")
    loaded = read_simulator(tmp_path / "there")
    same(loaded.model, simulator.model)
    assert all(x.is_cuda for x in (*there.model.parameters(), *there.model.buffers()))
    np.testing.assert_array_equal(latent_factors(there), latent_factors(simulator))


def test_errors_are_measured_there_too(gpu, simulator, cars):
    model = deepcopy(simulator.model).to("cuda")
    there, here = (logged_error(m, cars) for m in (model, simulator.model))
    assert there.keys() == here.keys()
    np.testing.assert_allclose(there["one_step_rmse"], here["one_step_rmse"], rtol=1e-3)
    np.testing.assert_allclose(there["open_loop"], here["open_loop"], rtol=1e-3)


@pytest.mark.parametrize(
    "use",
    [
        lambda s, data: BatchDynamics(s.model, [0]),
        lambda s, data: NearestResiduals(s.model, data),
        lambda s, data: s.online(0),
        lambda s, data: s.personalize(data),
    ],
    ids=["environments", "residuals", "online", "personalize"],
)
def test_what_is_computed_on_the_cpu_alone_says_so(gpu, simulator, cars, use):
    there = replace(simulator, model=deepcopy(simulator.model).to("cuda"))
    with pytest.raises(ValueError, match="the model is on cuda:0.*need it on the CPU"):
        use(there, cars)
    use(replace(there, model=there.model.cpu()), cars)
