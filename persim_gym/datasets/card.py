"""Dataset cards: how a dataset was made and what is in it, as Markdown with a histogram, from the data themselves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from minari.storage import get_dataset_path
from numpy.typing import NDArray

from persim_gym.datasets import load
from persim_gym.datasets.minari_files import REMEDY, open_minari
from persim_gym.datasets.registry import DatasetSpec, dataset_spec
from persim_gym.envs import Domain
from persim_gym.evaluation.figures import covariate_label, returns_figure
from persim_gym.evaluation.published import TEST_AGENTS, published_logging, published_logging_agents
from persim_gym.front_matter import card_fields, front_matter
from persim_gym.storage import check_own_file, reading, write_page

POLICY_DESCRIPTIONS = {
    "pure": "each agent acts as the logging policy that was trained on the training agent closest to it (thesis 5.1.2)",
    "random": "uniformly random actions",
    "pure-eps-20": "as pure, but every action is replaced with probability 0.2 by a uniformly random one",
    "pure-eps-40": "as pure, but every action is replaced with probability 0.4 by a uniformly random one",
}
SIZE_CATEGORIES = (
    (10**3, "n<1K"),
    (10**4, "1K<n<10K"),
    (10**5, "10K<n<100K"),
    (10**6, "100K<n<1M"),
    (10**7, "1M<n<10M"),
    (float("inf"), "n>10M"),
)
"""Numbers of transitions, as dataset hubs sort them."""
LENGTH_NOTE = "Lengths count steps"
CARTPOLE_LENGTH_NOTE = (
    f"{LENGTH_NOTE}; Table A.1's for CartPole are its rewards plus one, though every step earns 1, "
    "so they seem to count observations"
)


@dataclass(frozen=True)
class Summary:
    """What a card says of a dataset, computed from its episodes.

    Attributes:
        returns: Return of each agent's episode, [N].
        lengths: Its steps, int64 [N].
        terminated: Episodes that ended for a reason of the task, not by the time limit.
        metadata: As recorded when the dataset was built.
    """

    returns: NDArray[np.float64]
    lengths: NDArray[np.int64]
    terminated: int
    metadata: Mapping[str, Any]


def summarize(dataset_id: str, progress: bool = True) -> Summary:
    """Reads a dataset, checks it against its recorded hash and sums it up; builds it first when it is missing.

    Args:
        dataset_id: Minari id of one of our datasets.
        progress: Whether a build shows a progress bar.

    Raises:
        ValueError: If it is none of our datasets, the content is not the recorded one, or an older version built it.
        MissingPolicyError: As `load`.
    """
    dataset_spec(dataset_id)
    transitions = load(dataset_id, progress=progress)
    metadata = open_minari(dataset_spec(dataset_id).dataset_id).storage.metadata
    if missing := {"content_hash", "epsilon", "libraries", "license", "loggers", "python", "seed"} - set(metadata):
        raise ValueError(
            f"{dataset_id} does not record {', '.join(sorted(missing))}: an older version built it; remove "
            f"{get_dataset_path(dataset_id)} and build it again"
        )
    size = transitions.n_agents
    return Summary(
        returns=np.bincount(transitions.agent, weights=transitions.reward, minlength=size).astype(np.float64),
        lengths=np.bincount(transitions.agent, minlength=size),
        terminated=int(transitions.terminated.sum()),
        metadata=metadata,
    )


def write_card(dataset_id: str, out: str | Path | None = None, progress: bool = True, force: bool = False) -> Path:
    """Writes a dataset's card and, beside it, its histogram of returns.

    Args:
        dataset_id: Minari id of one of our datasets.
        out: Folder of cards, where it becomes `<domain>/<policy>-v0.md`; None for `card.md` beside the data.
        progress: Whether a build shows a progress bar.
        force: Whether a file that is no card of ours is replaced.

    Returns:
        The Markdown file; the picture has the same name and ends in .png.

    Raises:
        ValueError: As `summarize`.
        MissingPolicyError: As `summarize`.
    """
    spec = dataset_spec(dataset_id)
    summary = summarize(dataset_id, progress)
    path = Path(get_dataset_path(dataset_id)) / "card.md" if out is None else Path(out) / f"{spec.name}.md"
    check_own_file(path, force)
    published = published_logging(spec.domain.name, spec.policy)
    picture = path.with_suffix(".png")
    returns_figure(spec.domain, summary.returns, dataset_id, published[0] if published else None, picture)
    with reading(get_dataset_path(spec.dataset_id), REMEDY):  # Metadata may be of other types than ours.
        text = card_text(spec, summary, picture.name)
    write_page(path, text)
    return path


def card_text(spec: DatasetSpec, summary: Summary, picture: str) -> str:
    """The card in Markdown.

    Args:
        spec: How the dataset is made.
        summary: What is in it.
        picture: File name of the histogram.
    """
    domain = spec.domain
    tests, size = len(domain.test_agents), len(domain.population)
    lengths = CARTPOLE_LENGTH_NOTE if domain.name == "cartpole" else LENGTH_NOTE
    published = "Table A.1 numbers the agents from 1: its Agent 1 is agent 0."
    size_category = next(name for limit, name in SIZE_CATEGORIES if summary.lengths.sum() < limit)
    fields = card_fields(str(summary.metadata["license"]), ["minari", "offline-reinforcement-learning", domain.name])
    fields |= {"pretty_name": spec.dataset_id, "task_categories": ["reinforcement-learning"]}
    fields |= {"size_categories": [size_category]}
    template = (Path(__file__).parent / "templates" / "card.md").read_text(encoding="utf-8")
    return front_matter(fields) + template.format(
        dataset_id=spec.dataset_id,
        agents=len(summary.returns),
        env_id=domain.env_id,
        policy=spec.policy,
        picture=picture,
        rewards=_rewards(spec, summary),
        lengths=lengths,
        published=published if published_logging(domain.name, spec.policy) else "The thesis has no such dataset.",
        making=_making(spec, summary),
        loggers=_loggers(summary),
        covariates=_covariates(domain),
        last_test_agent=tests - 1,
        first_other_agent=tests,
        last_agent=size - 1,
        content=_content(domain, summary),
    )


def _rewards(spec: DatasetSpec, summary: Summary) -> str:
    domain, returns, lengths = spec.domain, summary.returns, summary.lengths
    tests, average = (f(domain.name, spec.policy) for f in (published_logging_agents, published_logging))
    rows = [
        [
            str(agent),
            covariate_label(domain, agent),
            f"{returns[agent]:.2f}",
            "–" if tests is None else f"{tests[agent]:.2f}",
            str(lengths[agent]),
            "–",
        ]
        for agent in TEST_AGENTS
    ]
    theirs = ("–", "–") if average is None else (f"{average[0]:.2f}", f"{average[1]:.2f}")
    mean = f"{returns.mean():.2f} ± {returns.std():.2f}"
    rows.append([f"all {len(returns)}", "", mean, theirs[0], f"{lengths.mean():.2f}", theirs[1]])
    header = ["agent", "covariates", "return", "thesis, Table A.1", "length", "thesis, Table A.1"]
    return _table(header, rows, "llrrrr")


def _making(spec: DatasetSpec, summary: Summary) -> str:
    domain, metadata = spec.domain, summary.metadata
    libraries = ", ".join(f"{name} {number}" for name, number in metadata["libraries"].items())
    rows = [
        ["environment", f"`{domain.env_id}`: {domain.summary}; at most {domain.episode_steps} steps an episode"],
        ["logging policy", _policy_description(spec)],
        ["probability of a random action", f"{metadata['epsilon']:g}"],
        ["seed", f"`numpy.random.default_rng({metadata['seed']})`"],
        ["versions", f"{', '.join(metadata['requirements'])}, {libraries}, Python {metadata['python']}"],
        [
            "made by",
            f"`persim datasets build {spec.dataset_id}`; equal versions on equal processors give an equal hash",
        ],
        ["licence", metadata["license"]],
    ]
    return _table(["", ""], rows)


def _policy_description(spec: DatasetSpec) -> str:
    rule = spec.domain.rule
    return rule.summary if rule and spec.policy == "pure" else POLICY_DESCRIPTIONS[spec.policy]


def _loggers(summary: Summary) -> str:
    loggers = summary.metadata["loggers"]
    if not loggers:
        return ""
    rows = [
        [
            record["name"],
            ", ".join(f"{name} {value:g}" for name, value in record["covariates"].items()),
            f"{record['algorithm']}, {record['steps']:,} steps",
            f"{record['mean_return']:.1f} ± {record['std_return']:.1f}",
            str(record["agents"]),
            f"`{record['sha256'][:12]}`",
        ]
        for record in loggers
    ]
    header = ["policy", "training agent", "trained by", "earns there", "acts for agents", "SHA-256 of the weights"]
    episodes = " or ".join(sorted({str(record["episodes"]) for record in loggers}))
    note = (
        f"Returns: mean ± standard deviation of {episodes} greedy episodes of the training agent, from the policy card."
    )
    return f"### Logging policies\n\n{_table(header, rows, 'lllrrl')}\n\n{note}\n\n"


def _covariates(domain: Domain) -> str:
    rows = [[c.name, f"{c.low:g}", f"{c.high:g}", f"{c.default:g}", c.unit or "–"] for c in domain.covariates]
    return _table(["covariate", "low", "high", "default", "unit"], rows, "lrrrl")


def _content(domain: Domain, summary: Summary) -> str:
    episodes, steps = len(summary.returns), int(summary.lengths.sum())
    rows = [
        ["transitions", f"{steps:,}"],
        ["episodes", f"{episodes}: {summary.terminated} terminated, {episodes - summary.terminated} cut off by time"],
        ["observations", f"float32 [{len(domain.observation_names)}]: {', '.join(domain.observation_names)}"],
        ["actions", f"`{domain.action_space}`"],
        ["SHA-256 of the transitions", f"`{summary.metadata['content_hash']}`"],
    ]
    return _table(["", ""], rows)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], align: str = "") -> str:
    """A Markdown table; `align` holds l or r for each column."""
    marks = [{"r": "---:"}.get(a, "---") for a in align.ljust(len(header), "l")]
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, marks, *rows))
