"""Whether trust horizons keep their promise where they were not calibrated: under another policy, with little data."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from persim_gym.datasets import load
from persim_gym.datasets.behavior.policies import TEST, load_behavior_policy
from persim_gym.envs import DOMAINS
from persim_gym.evaluation.acting import Policy
from persim_gym.evaluation.prediction import record_trajectories
from persim_gym.evaluation.published import PREDICTION_WARMUP, TEST_AGENTS
from persim_gym.simulator.diagnostics.conformal import first_failures, trust_horizons
from persim_gym.simulator.diagnostics.nearest_residuals import NearestResiduals
from persim_gym.simulator.diagnostics.open_loop import Windows, open_loop
from persim_gym.simulator.diagnostics.trust import Trust
from persim_gym.simulator.registry import load_simulator
from persim_gym.simulator.simulator import Simulator
from persim_gym.studies.personalize import drawn_transitions

TRUST_COUNTS = ("0", "1", "5", "20")  # Numbers of transitions of agents that training never saw.
OTHER_AGENTS = tuple(range(5, 50))
TRUST_EPISODES = 20  # Rollouts an agent.
TRUST_DRAWS = 5  # Draws of the transitions of an agent that training never saw; its rollouts are dealt out to them.


Rollouts: TypeAlias = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Errors and spreads of an agent's rollouts, as `open_loop` returns them."""


def true_windows(domain: str, agent: int, policy: Policy, episodes: int, steps: int, seed: int = 0) -> Windows:
    """Pieces of true trajectories under a policy, after the protocol's warm-up; NaN behind a termination."""
    spec = DOMAINS[domain]
    state = spec.initial_state(np.random.default_rng([seed, agent]), episodes)
    true = record_trajectories(policy, spec, agent, state, PREDICTION_WARMUP, steps)
    following = np.where(true.happened[..., None], np.stack(true.obs[1:], axis=1), np.float32(np.nan))
    kept, actions = true.happened[:, 0], np.stack(true.action, axis=1)
    return Windows(np.full(int(kept.sum()), agent), true.obs[0][kept], actions[kept], following[kept])


def promise_shares(results: Sequence[Rollouts], trust: Trust) -> dict[str, float]:
    """Shares of rollouts that keep the promise, and how long they are trusted."""
    errors, spreads = (np.concatenate(parts) for parts in zip(*results, strict=True))
    failures, horizons = first_failures(errors, trust.bound), trust_horizons(spreads, trust.scale, trust.bound)
    return {
        "rollouts": len(errors),
        "kept": float((horizons <= failures).mean()),
        "trusted": float(np.median(horizons)),
        "possible": float(np.median(failures)),
        "share": float(np.minimum(horizons, failures).sum() / max(failures.sum(), 1)),
    }


def stranger_rollouts(
    simulator: Simulator, logged: NearestResiduals | None, agent: int, count: str, windows: Windows
) -> list[Rollouts]:
    """Errors and spreads of a test agent that training never saw, each draw of its transitions on its own windows."""
    domain, draws = simulator.card.domain, TRUST_DRAWS if count != "0" else 1
    results = []
    for draw in range(draws):
        transitions = drawn_transitions(domain, agent, count, draw)
        known, number = simulator, agent  # Without transitions, the number of an agent that training never saw.
        if transitions is not None:
            known = simulator.personalize(transitions)
            number = known.model.config.n_agents - 1
        own = np.arange(draw, len(windows.agent), draws)
        part = Windows(np.full(len(own), number), windows.obs[own], windows.actions[own], windows.following[own])
        results.append(open_loop(known.model, known.known_beliefs(), part, logged=logged))
    return results


def run_trust_study(simulator: str, held_out: str | None = None) -> list[dict[str, Any]]:
    """Measures a calibrated simulator under the test policy in the true environment.

    Args:
        simulator: Name or path of a calibrated simulator of one of the thesis's domains.
        held_out: Path of one trained without the test agents, for agents with few transitions; None to leave them out.

    Returns:
        One row a case: what it is, rollouts, share of promises kept, median trusted and possible steps, share of the
        possible steps that were trusted.

    Raises:
        ValueError: If the simulator is not calibrated.
    """
    loaded = load_simulator(simulator)
    trust, domain = Trust.from_json(loaded.card.trust), loaded.card.domain
    policy, data = load_behavior_policy(domain, TEST), load(loaded.card.dataset)
    rows: list[dict[str, Any]] = [
        {"case": "logged trajectories of unseen agents", "rollouts": trust.agents, "kept": trust.coverage}
    ]
    windows = {a: true_windows(domain, a, policy, TRUST_EPISODES, trust.steps) for a in (*TEST_AGENTS, *OTHER_AGENTS)}
    logged = trust.logged(loaded.model, data)
    for case, agents in (("test policy, agents 0-4", TEST_AGENTS), ("test policy, agents 5-49", OTHER_AGENTS)):
        results = [open_loop(loaded.model, loaded.known_beliefs(), windows[a], logged=logged) for a in agents]
        rows.append({"case": case} | promise_shares(results, trust))
    if held_out is None:
        return rows
    stranger = load_simulator(str(Path(held_out)))
    logged = trust.logged(stranger.model, data.select(~np.isin(data.agent, TEST_AGENTS)))
    for count in TRUST_COUNTS:
        results = [r for a in TEST_AGENTS for r in stranger_rollouts(stranger, logged, a, count, windows[a])]
        rows.append({"case": f"test policy, agents 0-4 unseen, {count} transitions"} | promise_shares(results, trust))
    return rows


def trust_table(rows: Sequence[dict[str, Any]], trust: Trust) -> str:
    """Markdown table of `run_trust_study`'s rows."""
    lines = [
        f"Bound {trust.bound}, level {trust.level:.0%}, scale {trust.scale:.3g}, {trust.steps} steps; error below "
        f"scale x spread on {trust.band_coverage:.1%} of unseen logged trajectories.",
        "",
        "| case | rollouts | promise kept | steps trusted (median) | steps within the bound (median) | share trusted |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        ends = [f"{row[name]:.0f}" if name in row else "" for name in ("trusted", "possible")]
        share = f"{row['share']:.0%}" if "share" in row else ""
        lines.append(f"| {row['case']} | {row['rollouts']} | {row['kept']:.1%} | {ends[0]} | {ends[1]} | {share} |")
    return "\n".join(lines)
