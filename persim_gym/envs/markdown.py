"""The page that describes every true environment, made from what the domains say of themselves."""

from pathlib import Path

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
        return f"{space.n} discrete actions"
    plural = "s" if space.shape[0] > 1 else ""
    return f"{space.shape[0]} continuous action{plural} in [{space.low.min():g}, {space.high.max():g}]"


def environment_page() -> str:
    """Markdown of `docs/environments.md`."""
    lines: list[str] = []
    for domain in DOMAINS.values():
        names = [c.name for c in domain.covariates]
        lines += [
            "",
            f"## {domain.env_id}",
            "",
            f"{domain.summary[0].upper()}{domain.summary[1:]}. {actions_of(domain)}, "
            f"{domain.episode_steps} steps at most.",
            "",
            "| covariate | range |",
            "|---|---|",
            *(f"| `{c.name}` | {range_of(c)} |" for c in domain.covariates),
            "",
            f"Test agents ({', '.join(names)}): {_agents(domain.test_agents)}.",
            _logging(domain),
            "",
            "| observation | |",
            "|---|---|",
            *(f"| {i} | {name} |" for i, name in enumerate(domain.observation_names)),
        ]
    template = (Path(__file__).parent / "templates" / "environments.md").read_text(encoding="utf-8")
    return template.format(domains="\n".join(lines))


def _logging(domain: Domain) -> str:
    if domain.rule is not None:
        return f"Logging policy: {domain.rule.summary}."
    return f"Logging policies are trained on: {_agents(domain.training_agents)}."


def _agents(agents: tuple[tuple[float, ...], ...]) -> str:
    return ", ".join("(" + ", ".join(f"{value:g}" for value in agent) + ")" for agent in agents)
