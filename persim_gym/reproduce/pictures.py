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
        domains: Names of the domains that it shows.
        methods: Methods whose models it needs; none where it is drawn from results.
        agents: Agents that it shows; none for all.
    """

    name: str
    title: str
    page: int
    domains: tuple[str, ...] = THESIS_DOMAINS
    methods: tuple[str, ...] = ()
    agents: tuple[int, ...] = ()


_SIMULATED = ("persim", "cadm", "pe-ts-cadm")
PICTURES = {
    picture.name: picture
    for picture in (
        Picture("1-1", "Latent factors of the agents", 15, methods=("persim",)),
        Picture("1-2", "Predictions drawn over the truth: CartPole", 17, ("cartpole",), _SIMULATED, (0, 4)),
        Picture("B-1", "Predictions drawn over the truth", 54, ("mountaincar", "cartpole"), _SIMULATED, (0, 4)),
        Picture("B-2", "Latent factors of the agents", 57, methods=("persim",)),
        Picture("agents", "Errors and returns by the number of agents", 0),
        Picture("errors", "Returns against prediction errors", 0),
    )
}
"""By name; 1-1 and B-2 show the same factors, and 1-2 is a part of B-1."""


def picture_models(picture: Picture, scale: Scale, domains: Sequence[str]) -> list[ModelKey]:
    """The trained models that a figure needs: those of the first trial, of all agents' random data."""
    return [
        ModelKey(domain, DATASET, method, POPULATION, ALL, 0, scale.effort_of(domain, method).training)
        for domain in picture.domains
        if domain in domains
        for method in picture.methods
    ]


def draw_picture(picture: Picture, results: Sequence[Result], models: Models, folder: Path) -> list[Path]:
    """Draws a figure; beside each PNG lies a CSV file of its numbers.

    Args:
        picture: The figure.
        results: Rows of any cells.
        models: The trained models of `picture_models`.
        folder: Where it goes.

    Returns:
        The pictures: one, or one a domain.

    Raises:
        ImportError: If a library is not installed that it needs.
        ValueError: If there are no rows to draw.
    """
    path = folder / f"{picture.name}.png"
    if not picture.methods:
        draw: Callable[[Sequence[Result], Path], Path] = (
            fewer_agents_figure if picture.name == "agents" else error_and_return_figure
        )
        draw(results, path)
        return [path]
    if picture.methods == ("persim",):
        factors = {
            key.domain: model.model.state_dict()["agent_encoder.factor"].numpy()
            for key, model in models.items()
            if isinstance(model, Simulator)
        }
        latent_factors_figure(factors, path)
        return [path]
    drawn = []
    for domain in dict.fromkeys(key.domain for key in models):
        dynamics = {
            agent: {
                key.method: model.dynamics(agent)
                for key, model in models.items()
                if key.domain == domain and not isinstance(model, BaselinePolicy)
            }
            for agent in picture.agents
        }
        drawn.append(folder / f"{picture.name}-{domain}.png")
        ghosts_figure(DOMAINS[domain], dynamics, drawn[-1])
    return drawn
