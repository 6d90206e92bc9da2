"""The page that describes every true environment, made from what the domains say of themselves."""

from gymnasium import spaces

from persim_gym.envs import DOMAINS, Covariate, Domain


def range_of(covariate: Covariate) -> str:
    """A covariate's range, unit and default, e.g. `2–18 N (default 10)`."""
    unit = f" {covariate.unit}" if covariate.unit else ""
    return f"{covariate.low:g}–{covariate.high:g}{unit} (default {covariate.default:g})"


def actions_of(domain: Domain) -> str:
    """A domain's actions in words."""
    space = domain.action_space
    if isinstance(space, spaces.Discrete):
        return f"{space.n} discrete"
    return f"{space.shape[0]} continuous in [{space.low.min():g}, {space.high.max():g}]"


def environment_page() -> str:
    """Markdown of `docs/environments.md`."""
    lines = [
        "# The true environments",
        "",
        "Made by `persim envs --markdown > docs/environments.md`. Each has a population of 500 agents; agents 0–4 are",
        "the listed test agents, 5–499 are drawn uniformly in the ranges from a fixed seed. `gym.make(id, agent=17)`",
        "picks one, covariates by name (`gym.make(id, mass=0.5)`) make one outside the population, and neither gives",
        "Gymnasium's own physics. Covariates are not part of the observation.",
    ]
    for domain in DOMAINS.values():
        names = [c.name for c in domain.covariates]
        lines += [
            "",
            f"## {domain.env_id}",
            "",
            f"{domain.summary[0].upper()}{domain.summary[1:]}. {actions_of(domain)} actions, "
            f"{domain.episode_steps} steps at most.",
            "",
            "| covariate | range |",
            "|---|---|",
            *(f"| `{c.name}` | {range_of(c)} |" for c in domain.covariates),
            "",
            f"Test agents ({', '.join(names)}): {_agents(domain.test_agents)}.",
            f"Logging policies are trained on: {_agents(domain.training_agents)}.",
            "",
            "| observation | |",
            "|---|---|",
            *(f"| {i} | {name} |" for i, name in enumerate(domain.observation_names)),
        ]
    return "\n".join(lines) + "\n"


def _agents(agents: tuple[tuple[float, ...], ...]) -> str:
    return ", ".join("(" + ", ".join(f"{value:g}" for value in agent) + ")" for agent in agents)
