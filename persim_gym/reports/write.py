"""`persim report` and `persim_gym.report`: all that is known of a simulator, on one page."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from string import Template

from persim_gym.datasets.minari_files import dataset_folder, open_minari
from persim_gym.datasets.of_simulator import logged_data
from persim_gym.datasets.tables.static import static_of
from persim_gym.envs import DOMAINS
from persim_gym.models import load_learned
from persim_gym.reports.about import data_part, error_part, observed_names, trust_part
from persim_gym.reports.agents import agent_part, reading_part
from persim_gym.reports.atlas import Coloring, as_coloring, atlas_part, logged_colorings
from persim_gym.reports.compared import read_compared
from persim_gym.reports.markup import paragraphs, section, text, unknown
from persim_gym.simulator.simulator import Simulator
from persim_gym.storage import SIGNATURE, check_own_file, write_text
from persim_gym.transitions import Transitions
from persim_gym.version import __version__
from persim_gym.workflows.evaluate import true_errors

DEFAULT_AGENTS = 5
"""So many of the first agents have a section, where none is named."""
SAMPLED_EPISODES = 2000
"""Episodes that are looked at where data are on disk."""
TEMPLATES = Path(__file__).parent / "templates"


def report(
    simulator: str | Path | Simulator,
    agents: Iterable[int | str] | None = None,
    *,
    out: str | Path = "persim-out/report.html",
    compare: str | Path | None = None,
    data: Transitions | None = None,
    episodes: int = 50,
    seed: int = 0,
    force: bool = False,
) -> Path:
    """Writes what is known of a simulator and its agents as one page of HTML that needs no network.

    It has: what the simulator is made of, its error by horizon, how far it can be trusted, an atlas of all agents, and
    of each agent that is asked for its log and what it would do under other actions. What is not known is said.

    Args:
        simulator: A simulator, or its name or path.
        agents: Numbers or names of agents with a section of their own; None for the first five.
        out: The file.
        compare: CSV file of `persim compare`; its rows go into the agents' sections.
        data: What the simulator was trained on; None to look for its dataset.
        episodes: Episodes an agent in the true environment, where there is one.
        seed: Of all that is drawn.
        force: Whether a file that persim did not write is replaced.

    Returns:
        The file.

    Raises:
        ValueError: If it is no factored simulator or a variant of one, an agent is unknown, the data are others than it
            was trained on, `compare` is another table, or another file is in the way.
    """
    out = Path(out).expanduser()
    check_own_file(out, force)
    rows = None if compare is None else read_compared(Path(compare).expanduser())
    loaded = simulator if isinstance(simulator, Simulator) else load_learned(simulator)
    if not isinstance(loaded, Simulator):
        raise ValueError(
            f"{loaded.card.name} learns no factors of agents, so that there is no report of it; give a simulator"
        )
    chosen = _chosen(loaded, agents)
    data, said = _data(loaded, data)
    true = [n for n in chosen if loaded.card.domain and n < len(DOMAINS[loaded.card.domain].population)]
    errors = true_errors(loaded, true, episodes=episodes, seed=seed) if true else {}
    parts = {
        "Data and model": section("Data and model", data_part(loaded) + unknown(*said), "data"),
        "Error": section("Error by horizon", error_part(loaded, errors), "error"),
        "Trust": section("Trust", trust_part(loaded), "trust"),
        "Atlas": section("Atlas of agents", _atlas(loaded, data, chosen), "atlas"),
    }
    if chosen:
        parts["Agents"] = reading_part(loaded)
    links = {name: body.split('"', 2)[1] for name, body in parts.items()}
    for agent in chosen:
        parts[f"agent {agent}"] = agent_part(loaded, agent, data, rows, seed)
        links[f"Agent {loaded.agent_name(agent)}"] = f"agent-{agent}"
    write_text(out, _page(loaded, links, list(parts.values())))
    return out


def _chosen(simulator: Simulator, agents: Iterable[int | str] | None) -> list[int]:
    """Numbers of the agents that have a section."""
    if isinstance(agents, str | int):
        raise ValueError(f"agents are several numbers or names, not {agents!r}; give [{agents!r}]")
    given = range(min(DEFAULT_AGENTS, simulator.n_agents)) if agents is None else agents
    chosen = list(dict.fromkeys(simulator.agent_number(agent) for agent in given))
    simulator.model.check_agents(chosen)
    return chosen


def _data(simulator: Simulator, data: Transitions | None) -> tuple[Transitions | None, list[str]]:
    """What the simulator was trained on, in memory, and what is to be said of it."""
    name, wanted = simulator.card.name, simulator.card.dataset_hash
    if data is not None:
        data = simulator.with_past(data)
        if data.content_hash() != wanted:
            raise ValueError(
                f"these data are not what simulator {name} was trained on (their content has another hash)"
            )
        return data, []
    try:
        found = logged_data(simulator)
    except ValueError as error:
        return None, [
            f"The data that it was trained on are not here, so that logs and their statistics are not known: {error}."
        ]
    if found.in_memory:
        return found.sample(0), []
    some = found.sample(SAMPLED_EPISODES)
    return some, [f"The data are on disk; logs and statistics are of {SAMPLED_EPISODES:,} of their episodes at most."]


def _atlas(simulator: Simulator, data: Transitions | None, chosen: Sequence[int]) -> str:
    """The atlas, or why there is none."""
    variant = simulator.model.config.variant
    if variant != "factored":
        return unknown(f"The simulator is {variant}: it has no factors that could tell agents apart.")
    if simulator.n_agents < 3:
        return unknown(f"Of {simulator.n_agents} agents there is nothing to map.")
    colorings = list[Coloring]()
    if domain := DOMAINS.get(simulator.card.domain):
        for i, c in enumerate(domain.covariates):
            name = f"{c.name} ({c.unit})" if c.unit else c.name
            colorings.append(as_coloring(name, domain.population[:, i].tolist(), "true covariates, never seen"))
    if data is not None:
        if dataset_folder(data.source).is_dir():
            static = static_of(open_minari(data.source))
            colorings += [as_coloring(name, values, "static covariates") for name, values in static.items()]
        colorings += logged_colorings(data, observed_names(simulator)[: simulator.spec.layout.present])
    return atlas_part(simulator, colorings, chosen)


def _page(simulator: Simulator, links: dict[str, str], parts: Sequence[str]) -> str:
    """The whole page."""
    contents = "".join(f'<a href="#{anchor}">{text(name)}</a>' for name, anchor in links.items())
    card = simulator.card
    truth = (
        f"It is of the domain {card.domain}, whose true environments errors are measured against."
        if card.domain
        else "It is of data of no domain: there is no true environment, and whatever is simulated stays a prediction."
    )
    return Template((TEMPLATES / "page.html").read_text(encoding="utf-8")).substitute(
        title=text(f"Simulator {card.name}"),
        lead=paragraphs(f"A personalized simulator of {simulator.n_agents:,} agents, learned from their logs. {truth}"),
        style=(TEMPLATES / "style.css").read_text(encoding="utf-8"),
        script=(TEMPLATES / "atlas.js").read_text(encoding="utf-8"),
        contents=contents,
        body="\n".join(parts),
        made=text(f"Written by persim_gym {__version__}."),
        sign=SIGNATURE,
    )
