"""What gradient steps leave unfinished, in closed form: the state encoder's last layer and agents' factors, in turns.

With the agents, the actions and the hidden units of the state encoder frozen, a member's scaled change of dimension d
is linear in the weights of the last layer, as it is in the agents' factors with these frozen:

    sum over h and r of W_hdr * (hidden_h(obs) u_r(agent) w_r(action))

The weights' posterior mean under a normal prior around what training found, and residuals of the measured variance as
noise, is a ridge regression. On the noiseless data of CartPole rounds of the two take the one-step error of a trained
simulator to a fifth and less (docs/accuracy.md).
"""

import hashlib
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from persim_gym.parallel import run_members
from persim_gym.simulator.inference.personalize import polished
from persim_gym.simulator.inference.posterior import FactorPosterior
from persim_gym.simulator.inference.regression import (
    PRIOR_EPISODES,
    chunks,
    factor_posterior,
    residual_variance,
    targets,
)
from persim_gym.simulator.model.encoders import EnsembleLinear, EnsembleMLP
from persim_gym.simulator.model.ensemble import FactoredEnsemble
from persim_gym.simulator.training.checkpoint import read_checkpoint, write_checkpoint
from persim_gym.simulator.training.recipe import TrainingRecipe
from persim_gym.simulator.training.watch import CLOSED_FORM, Watch, unwatched
from persim_gym.transitions import LoggedData, Transitions

LAST_LAYER_ROWS = 20_000  # The last layer is solved on at most so many transitions.
MIN_RIDGE = 2e-13  # A ridge is at least this share of the trace; double precision solves no less.


def solve_closed_form(
    model: FactoredEnsemble,
    transitions: LoggedData,
    recipe: TrainingRecipe,
    seed: int = 0,
    clips: bool = True,
    progress: bool = False,
    checkpoint: Path | None = None,
    watch: Watch = unwatched,
) -> tuple[FactoredEnsemble, FactorPosterior]:
    """What a recipe does in closed form after the gradient steps: rounds of `refine`, then the polish.

    Args:
        model: The trained ensemble, on the CPU; may be changed in place.
        transitions: What it was trained on.
        recipe: Its `refine` and `polish` count.
        seed: Chooses agents and transitions where there are more than needed.
        clips: See `FactorPrior`.
        progress: Whether to show a progress bar.
        checkpoint: File that every round is kept in, beside that of the gradient steps (`rounds_file`), and resumed
            from; removed by the caller once the result is safe.
        watch: Is told of every round, and of the polish as one more.

    Returns:
        The ensemble, and what is believed of its agents.
    """
    start = _start_digest(model, transitions, seed, clips) if checkpoint and recipe.refine else ""
    done = _resume_rounds(checkpoint, model, start, recipe.refine) if checkpoint and start else 0
    hidden = not (progress and recipe.refine)
    for k in tqdm(range(done, recipe.refine), "refining", recipe.refine, initial=done, unit="round", disable=hidden):
        if k:  # Beliefs are held for one round at a time: those of many agents take gigabytes.
            model = polished(model, factor_posterior(model, transitions, seed, clips))
        model = solve_last_layer(model, transitions, seed, clips)
        if checkpoint:
            tensors = {name: values.contiguous() for name, values in model.state_dict().items()}
            write_checkpoint(checkpoint, tensors, {"start": start, "done": str(k + 1)})
        watch(CLOSED_FORM, k + 1, model, None)
    beliefs = factor_posterior(model, transitions, seed, clips)
    model = polished(model, beliefs, every=recipe.polish or recipe.refine > 0)
    watch(CLOSED_FORM, recipe.refine + 1, model, None)
    return model, beliefs


@torch.no_grad()
def solve_last_layer(
    model: FactoredEnsemble, transitions: LoggedData, seed: int = 0, clips: bool = True
) -> FactoredEnsemble:
    """The model with posterior means for the weights of its state encoder's last layer.

    Their prior is normal around the weights as they are, with these weights' own standard deviation.

    Args:
        model: The trained ensemble, on the CPU.
        transitions: What it was trained on; `LAST_LAYER_ROWS` of them are used.
        seed: Chooses these.
        clips: See `FactorPrior`.
    """
    sample = transitions.sample(PRIOR_EPISODES, seed)
    if len(sample) > LAST_LAYER_ROWS:
        keep = np.zeros(len(sample), dtype=np.bool_)
        keep[np.random.default_rng(seed).choice(len(sample), LAST_LAYER_ROWS, replace=False)] = True
        sample = sample.select(keep)
    noise = residual_variance(model, sample, clips) * len(sample) / len(transitions)
    changed, together = deepcopy(model), _groups(model, sample, clips)

    def solve(member: int, _: int) -> None:
        _solve(changed, model, member, sample, noise[member], together, clips)

    run_members(solve, model.config.members, 1)
    return changed


@torch.no_grad()  # Threads of the pool do not take the setting of the caller over.
def _solve(
    changed: FactoredEnsemble,
    model: FactoredEnsemble,
    member: int,
    data: Transitions,
    noise: Tensor,
    together: list[list[int]],
    clips: bool,
) -> None:
    """Writes one member's last layer into `changed`; noise [D + E]."""
    s, last = model.config, _last(changed)
    width = s.state_layers[-1] + 1
    weights = last.weight[member].double()
    # A single weight has no spread; its own size stands for it.
    spread = weights.var() if weights.numel() > 1 else weights.square().sum()
    ridges = noise / spread.clamp_min(1e-12)
    moments = _right_sides(model, member, data, clips)
    for group in together:  # Values that are missing here and there make many groups: one matrix is held at a time.
        gram = _gram(model, member, data, group[0], clips)
        least = MIN_RIDGE * float(gram.trace())
        for d in group:
            step = _ridge(gram, moments[:, d], max(float(ridges[d]), least)).view(width, s.rank).float()
            last.weight[member].view(-1, s.out_dim, s.rank)[:, d] += step[:-1]
            last.bias[member].view(s.out_dim, s.rank)[d] += step[-1]


def _ridge(gram: Tensor, moment: Tensor, ridge: float) -> Tensor:
    """Solution of (gram + ridge I) x = moment, [P]; holds two more matrices of gram's size, which may be gigabytes."""
    factor = gram.clone()
    factor.diagonal().add_(ridge)
    factor = torch.linalg.cholesky(factor)
    return torch.cholesky_solve(moment[:, None], factor)[:, 0]


def _right_sides(model: FactoredEnsemble, member: int, data: Transitions, clips: bool) -> Tensor:
    """Right sides of the normal equations of a step from the weights as they are, [P, D + E].

    P = (H + 1) * R counts an output's weights and biases.
    """
    s, last = model.config, _last(model)
    width, rank = s.state_layers[-1] + 1, s.rank
    layer = torch.cat([last.weight[member], last.bias[member]]).double()  # [H + 1, (D + E) * R]
    moments = torch.zeros(width, rank, s.out_dim, dtype=torch.float64)
    for hidden, product, change, known in _inputs(model, member, data, clips):
        predicted = ((hidden @ layer).view(-1, s.out_dim, rank) * product[:, None]).sum(2)
        missing = (change - predicted) * known
        for r in range(rank):
            moments[:, r] += hidden.T @ (product[:, r, None] * missing)
    return moments.view(width * rank, s.out_dim)


def _gram(model: FactoredEnsemble, member: int, data: Transitions, output: int, clips: bool) -> Tensor:
    """Matrix of the normal equations of an output, [P, P], made of R (R + 1) / 2 blocks, by pairs of ranks."""
    s = model.config
    width, rank = s.state_layers[-1] + 1, s.rank
    gram = torch.zeros(width, rank, width, rank, dtype=torch.float64)
    for hidden, product, _, known in _inputs(model, member, data, clips):
        some = known[:, output]
        h, p = hidden[some], product[some]
        for i in range(rank):
            for j in range(i + 1):
                gram[:, i, :, j] += (h * (p[:, i] * p[:, j])[:, None]).T @ h
    for i in range(rank):
        for j in range(i):
            gram[:, j, :, i] = gram[:, i, :, j]
    return gram.view(width * rank, width * rank)


def _groups(model: FactoredEnsemble, data: Transitions, clips: bool) -> list[list[int]]:
    """Outputs that are known in the same transitions: their normal equations share a matrix."""
    known = torch.cat([rows[-1] for rows in _known_targets(model, data, clips)])
    groups: dict[bytes, list[int]] = {}
    for d, column in enumerate(known.T):
        groups.setdefault(np.packbits(column.numpy()).tobytes(), []).append(d)
    return list(groups.values())


def _known_targets(model: FactoredEnsemble, data: Transitions, clips: bool) -> Iterator[tuple[Tensor, ...]]:
    """Agents, observations, actions, targets and which of these say something, of some transitions at once."""
    for agent, obs, action, next_obs, learned in chunks(data, model.config.extra_dim):
        yield agent, obs, action, *targets(model, obs, next_obs, learned, clips)


def _inputs(model: FactoredEnsemble, member: int, data: Transitions, clips: bool) -> Iterator[tuple[Tensor, ...]]:
    """What a member's last layer is multiplied by, and what should come out.

    Yields:
        Hidden units and a 1, [K, H + 1], factors of agent and action multiplied, [K, R], targets and which are known,
        [K, D + E]; double.
    """
    states = model.state_encoder
    assert isinstance(states, EnsembleMLP)
    one = slice(member, member + 1)
    for agent, obs, action, change, known in _known_targets(model, data, clips):
        x = model.scale_obs(obs)[None]
        for layer in states.layers[:-1]:
            assert isinstance(layer, EnsembleLinear)
            x = states.activation(torch.baddbmm(layer.bias[one], x, layer.weight[one]))
        u = model.agent_encoder(agent)[member].double()
        scaled = model.scale_action(action)
        w = model.action_encoder(
            scaled if model.config.n_actions else scaled.expand(model.config.members, *action.shape)
        )
        yield torch.nn.functional.pad(x[0].double(), (0, 1), value=1.0), u * w[member].double(), change, known


def _last(model: FactoredEnsemble) -> EnsembleLinear:
    states = model.state_encoder
    assert isinstance(states, EnsembleMLP)
    last = states.layers[-1]
    assert isinstance(last, EnsembleLinear)
    return last


def _start_digest(model: FactoredEnsemble, transitions: LoggedData, seed: int, clips: bool) -> str:
    """What rounds that were cut off must agree in with those that go on from them."""
    digest = hashlib.sha256(f"{transitions.content_hash()} {seed} {clips}".encode())
    for name, values in sorted(model.state_dict().items()):
        digest.update(name.encode() + np.ascontiguousarray(values.numpy()).tobytes())
    return digest.hexdigest()


def _resume_rounds(path: Path, model: FactoredEnsemble, start: str, rounds: int) -> int:
    """Loads the last round into the model, if there is one of the same start; returns the number of rounds done."""
    try:
        tensors, metadata = read_checkpoint(path)
        done = int(metadata.get("done", 0))
    except (FileNotFoundError, ValueError):  # There is none, or what is left of one: rounds are soon made again.
        return 0
    own = {name: values.shape for name, values in model.state_dict().items()}
    if metadata.get("start") != start or done > rounds or own != {name: x.shape for name, x in tensors.items()}:
        return 0
    model.load_state_dict(tensors)
    return done
