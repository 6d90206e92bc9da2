"""The figures by name: which trained models each needs, and how it is drawn."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from persim_gym.baselines.policy import BaselinePolicy
from persim_gym.datasets.registry import THESIS_DOMAINS
from persim_gym.envs import DOMAINS
from persim_gym.reproduce.figures.error_and_return import error_and_return_figure
from persim_gym.reproduce.figures.fewer_agents import fewer_agents_figure
from persim_gym.reproduce.figures.ghosts import ghosts_figure
from persim_gym.reproduce.figures.latent_factors import latent_factors_figure
from persim_gym.reproduce.models import ALL, ModelKey, TrainedModel
from persim_gym.reproduce.protocol import POPULATION, Scale
from persim_gym.reproduce.results import Result
from persim_gym.simulator.simulator import Simulator

AGENTS = {"mountaincar": (0, 3), "cartpole": (3, 1)}
"""Agents that predictions are drawn for, as in the thesis's captions."""
DATASET = "random"
"""What the pictured models are trained on."""

Models = Mapping[ModelKey, TrainedModel]


@dataclass(frozen=True)
class Picture:
    """A figure of the thesis, or one of ours.

    Attributes:
        name: As the thesis numbers it; a word for ours.
        title: What it shows.
        page: Page of the thesis; 0 for ours.
        draw: Draws it from rows of any cells and trained models into one PNG, or one a domain; returns them.
        domains: Names of the domains that it shows.
        methods: Methods whose models it needs; none where it is drawn from rows.
    """

    name: str
    title: str
    page: int
    draw: Callable[[Sequence[Result], Models, Path], list[Path]]
    domains: tuple[str, ...] = THESIS_DOMAINS
    methods: tuple[str, ...] = ()


def picture_models(picture: Picture, scale: Scale, domains: Sequence[str]) -> list[ModelKey]:
    """The trained models that a figure needs: those of the first trial, of all agents' random data."""
    return [
        ModelKey(domain, DATASET, method, POPULATION, ALL, 0, scale.effort_of(domain, method).training)
        for domain in picture.domains
        if domain in domains
        for method in picture.methods
    ]


def _draw_factors(results: Sequence[Result], models: Models, path: Path) -> list[Path]:
    factors = {
        key.domain: model.model.state_dict()["agent_encoder.factor"].numpy()
        for key, model in models.items()
        if isinstance(model, Simulator)
    }
    latent_factors_figure(factors, path)
    return [path]


def _draw_ghosts(results: Sequence[Result], models: Models, path: Path) -> list[Path]:
    drawn = []
    for domain in dict.fromkeys(key.domain for key in models):
        dynamics = {
            agent: {
                key.method: model.dynamics(agent)
                for key, model in models.items()
                if key.domain == domain and not isinstance(model, BaselinePolicy)
            }
            for agent in AGENTS[domain]
        }
        drawn.append(path.with_name(f"{path.stem}-{domain}.png"))
        ghosts_figure(DOMAINS[domain], dynamics, drawn[-1])
    return drawn


def _draw_fewer_agents(results: Sequence[Result], models: Models, path: Path) -> list[Path]:
    fewer_agents_figure(results, path)
    return [path]


def _draw_errors(results: Sequence[Result], models: Models, path: Path) -> list[Path]:
    error_and_return_figure(results, path)
    return [path]


_PREDICTED = ("persim", "cadm", "pe-ts-cadm")
PICTURES = {
    picture.name: picture
    for picture in (
        Picture("1-1", "Latent factors of the agents", 17, _draw_factors, methods=("persim",)),
        Picture("1-2", "Predictions drawn over the truth", 18, _draw_ghosts, ("cartpole",), _PREDICTED),
        Picture("B-1", "Predictions drawn over the truth", 54, _draw_ghosts, ("mountaincar", "cartpole"), _PREDICTED),
        Picture("B-2", "Latent factors of the agents", 57, _draw_factors, methods=("persim",)),
        Picture("agents", "Errors and returns by the number of agents", 0, _draw_fewer_agents),
        Picture("errors", "Returns against prediction errors", 0, _draw_errors),
    )
}
"""By name; 1-1 and B-2 show the same factors, and 1-2 is a part of B-1."""
