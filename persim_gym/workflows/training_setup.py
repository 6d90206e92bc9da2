"""What a training needs before its first step: data, spaces, task, recipe and folder, resolved once."""

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypedDict

from gymnasium import spaces
from minari import MinariDataset

from persim_gym.datasets.load import check_known, open_dataset
from persim_gym.datasets.minari_adapter import spec_of_dataset
from persim_gym.datasets.registry import NAMESPACE, find_dataset
from persim_gym.datasets.tables.static import static_of
from persim_gym.envs import DOMAINS
from persim_gym.envs.hetero import domain_of
from persim_gym.paths import unfinished
from persim_gym.simulator.diagnostics.curves import summary_writer
from persim_gym.simulator.model.config import VARIANTS
from persim_gym.simulator.registry import simulator_folder
from persim_gym.simulator.training.problem import Problem
from persim_gym.simulator.training.recipe import TrainingRecipe, general_recipe
from persim_gym.simulator.trusted_tasks import check_task, is_imported, trust_from_now_on
from persim_gym.spec import DOMAIN_TASK, LEARNED_TASK, EnvironmentSpec, task_at
from persim_gym.suggest import suggestion
from persim_gym.transitions import LoggedData
from persim_gym.workflows.action_bounds import ActionBounds, with_action_bounds
from persim_gym.workflows.history import History, load_data, spec_with_past


class TrainOptions(TypedDict, total=False):
    """Further options of a training, each with a default.

    Attributes:
        task: Reward and termination: "learned", or the user's own as `module:name`, which is then one of this user's
            trusted tasks; empty for the domain's, and for learned ones without a domain.
        recipe_name: What the card calls a recipe that is given as an object.
        settings: Changed fields of the recipe, each "field=value" with the value as JSON has it.
        epochs: Passes over the data instead of the recipe's; rounds in closed form change in proportion.
        variant: "factored", or a variant of thesis section 5.3.
        device: Torch device.
        memory: GB that the data may take; larger ones are read in parts. None for half of the machine's memory.
        license: Licence of the weights, for the card; by default MIT for our domains, and not stated for other data.
        domain: Name of the domain of data that are given as an object.
        spec: Spaces and time limit of data of no domain that are given as an object.
        static: Static covariates of data that are given as an object, by column, a value for each agent by its number;
            a dataset that was imported with some has its own.
        action_bounds: Bounds of continuous actions of data of no domain: "logged" for those of the data, or (-2, 2);
            needed where the action space has none.
        history: What observations hold of the past beside the present: a number of steps of every column and action, or
            "glucose=8,insulin=decay:55min,120min", the last so many values of a column or running averages of it.
        exogenous: Observed columns that come from outside, the last ones; by default those that the dataset names.
        backend: Where rank="auto" tries ranks: "local" or "ray", see `persim_gym.jobs.JobPlace`.
        address: Of the Ray cluster; None to start Ray on this machine.
        holdout: Whether data of no domain are held out in a first training, to measure errors by horizon on them beside
            an unpersonalized simulator of the same data; that takes two trainings more.
        tensorboard: Folder of TensorBoard's curves, `training/` in it; `held-out/` is of the training on a part of your
            own data, its errors on the rest. None for no curves.
    """

    task: str
    recipe_name: str
    settings: Sequence[str]
    epochs: int | None
    variant: str
    device: str
    memory: float | None
    license: str
    domain: str
    spec: EnvironmentSpec | None
    static: Mapping[str, Sequence[Any]]
    action_bounds: ActionBounds
    history: History
    exogenous: Sequence[str]
    backend: str
    address: str | None
    holdout: bool
    tensorboard: str | Path | None


@dataclass(frozen=True)
class TrainingSetup:
    """A training, resolved: on which data, how, and where to.

    Attributes:
        data: The data, in memory or on disk.
        name: Name of the simulator.
        domain: Name of the domain; empty for data of none.
        spec: Spaces, time limit and task.
        own_spec: Whether the card keeps the spec, because it is not just the domain's.
        recipe: Model and training.
        recipe_name: What the card calls the recipe.
        variant: "factored", or a variant of thesis section 5.3.
        seed: Source of all randomness.
        device: Torch device.
        license: Licence of the weights.
        folder: Where the simulator goes.
        holdout: Whether errors by horizon are measured, by trainings of their own.
        static: Static covariates, by column, a value for each agent; empty for none.
        tensorboard: Folder of TensorBoard's curves; None for none.
    """

    data: LoggedData
    name: str
    domain: str
    spec: EnvironmentSpec
    own_spec: bool
    recipe: TrainingRecipe
    recipe_name: str
    variant: str
    seed: int
    device: str
    license: str
    folder: Path
    holdout: bool = False
    static: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    tensorboard: Path | None = None

    def curves(self, run: str) -> Path | None:
        """Folder of the curves of one of its trainings."""
        return self.tensorboard and self.tensorboard / run

    @property
    def problem(self) -> Problem:
        """What the model has to learn."""
        learned = self.spec.task == LEARNED_TASK
        context = self.spec.layout.context
        return Problem(self.spec.n_actions, self._bounds(), learned, clips=bool(self.domain), context=context)

    def _bounds(self) -> tuple[Any, Any] | None:
        """Bounds that predictions are clipped to, [D] each, or None.

        A domain says whether its physics clips; of other data it is known that every observation lies in the space, and
        clipping to it never takes a prediction further from the truth.
        """
        if not self.domain:
            return self.spec.bounds
        space = self.spec.observation_space
        return (space.low, space.high) if domain_of(self.domain).clips else None

    @property
    def checkpoint(self) -> Path:
        """File that the training keeps its state in while it runs."""
        data = self.data.content_hash(), self.data.n_agents
        stem = unfinished(f"{self.name}-{self.seed}", *data, self.recipe.to_json(), self.variant, self.spec.task)
        return Path(f"{stem}.safetensors")


def prepare_training(
    data: str | MinariDataset | LoggedData,
    *,
    name: str | None = None,
    recipe: str | TrainingRecipe = "default",
    rank: int | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    **options: Any,
) -> TrainingSetup:
    """Resolves a training; arguments as `persim_gym.train`, `options` as `TrainOptions`.

    Raises:
        ValueError: If an option is unknown, there are neither domain nor spec, the task cannot be imported or does not
            take the data, continuous actions have no bounds, the folder holds something else or cannot be written, or
            the rank is impossible.
    """
    if unknown := sorted(set(options) - set(TrainOptions.__annotations__)):
        raise ValueError(
            f"train has no option {', '.join(unknown)}; {suggestion(unknown[0], TrainOptions.__annotations__)}"
        )
    task, variant, settings = options.get("task", ""), options.get("variant", "factored"), options.get("settings", ())
    if variant not in VARIANTS:
        raise ValueError(f"no variant {variant!r}; {suggestion(variant, VARIANTS)}")
    rank, epochs = (
        None if v is None else _positive(n, v) for n, v in (("rank", rank), ("epochs", options.get("epochs")))
    )
    seed = _whole("seed", seed)
    if (curves := options.get("tensorboard")) is not None:
        summary_writer()  # What is missing is an error before the data are read.
    if (memory := options.get("memory")) is not None and not memory > 0:
        raise ValueError(f"memory {memory} is not positive; give gigabytes")
    if task not in ("", LEARNED_TASK):
        task_at(task)  # What cannot be imported is an error before the data are read.
    named = data if isinstance(data, str) else data.spec.dataset_id if isinstance(data, MinariDataset) else data.source
    ours = find_dataset(named)
    domain = options.get("domain", "") or (ours.domain.name if ours is not None else "")
    name = name or (ours.name if ours is not None else named)
    if isinstance(data, str) and ours is None:
        check_known(data)
    folder = simulator_folder(name, None if out is None else Path(out))  # Before the data are read, too.
    dataset = open_dataset(data) if isinstance(data, str) else data
    spec = options.get("spec") or (None if isinstance(dataset, LoggedData) else spec_of_dataset(dataset))
    history, exogenous = options.get("history", ""), options.get("exogenous", ())
    spec = spec_with_past(_spec(domain, spec, task), dataset, domain, history, exogenous)
    logged = load_data(dataset, spec, options.get("memory"))
    static = {} if isinstance(dataset, LoggedData) else static_of(dataset)
    spec = _known_agents(spec, logged.n_agents)
    if not domain:
        spec = with_action_bounds(spec, logged, options.get("action_bounds"))
    elif options.get("action_bounds"):
        raise ValueError(f"actions of {domain} have the bounds of its true environment; leave action bounds out")
    if is_imported(spec.task):
        check_task(spec.task, logged)
        trust_from_now_on(spec.task)
    if isinstance(recipe, TrainingRecipe):
        chosen = recipe
    else:  # Data of another name may be of a domain, too.
        dataset = logged.source.removeprefix(f"{NAMESPACE}/")
        known = dataset if domain and dataset.startswith(f"{domain}/") else domain
        chosen = recipe_for(known, recipe, continuous=not spec.n_actions)
    if epochs is not None:
        chosen = chosen.shortened(epochs, len(logged))
    if rank is not None:
        chosen = replace(chosen, rank=rank)
    return TrainingSetup(
        data=logged,
        name=name,
        domain=domain,
        spec=spec,
        own_spec=not domain or bool(task) or spec.own_layout is not None,
        recipe=chosen.changed(settings),
        recipe_name=" ".join([recipe if isinstance(recipe, str) else options.get("recipe_name", "own"), *settings]),
        variant=variant,
        seed=seed,
        device=options.get("device", "cpu"),
        license=options.get("license", "") or ("MIT" if domain else "not stated"),
        folder=folder,
        holdout=not domain and options.get("holdout", True),
        static=_known_static(options.get("static") or static, logged.n_agents),
        tensorboard=None if curves is None else Path(curves).expanduser(),
    )


def _whole(name: str, value: Any) -> int:
    """A whole number, NumPy's too, as Python's own."""
    try:
        return operator.index(value)
    except TypeError:
        raise ValueError(f"{name} {value!r} is no whole number") from None


def _positive(name: str, value: Any) -> int:
    """As `_whole`, of at least 1."""
    if (number := _whole(name, value)) < 1:
        raise ValueError(f"{name} {number} is not positive")
    return number


def _known_static(static: Mapping[str, Sequence[Any]], n_agents: int) -> Mapping[str, Sequence[Any]]:
    """Static covariates of those agents alone that the data hold; the last ones may have been filtered out.

    Raises:
        ValueError: If a column has too few values.
    """
    for name, values in static.items():
        if len(values) < n_agents:
            raise ValueError(f"static column {name} has {len(values)} values for {n_agents} agents; give one for each")
    return {name: list(values)[:n_agents] for name, values in static.items()}


def _spec(domain: str, spec: EnvironmentSpec | None, task: str) -> EnvironmentSpec:
    """Spaces, time limit and task of a training."""
    if domain:
        known = domain_of(domain)
        return EnvironmentSpec(known.observation_space, known.action_space, known.episode_steps, task or DOMAIN_TASK)
    if spec is None:
        raise ValueError("give domain=..., or spec=EnvironmentSpec(...) for data that belong to no domain")
    return replace(spec, task=task or spec.task)


def _known_agents(spec: EnvironmentSpec, n_agents: int) -> EnvironmentSpec:
    """The spec with the names of those agents alone that the data hold; the last ones may have been filtered out."""
    return replace(spec, labels=replace(spec.labels, agents=spec.labels.agents[:n_agents]))


def recipe_for(name: str, kind: str = "default", continuous: bool = False) -> TrainingRecipe:
    """The recipe that a domain recommends, for one of its datasets or for all, or the general one.

    Args:
        name: Name of a domain, of a dataset (`<domain>/<policy>-v0`), or any other.
        kind: "default" or "thesis".
        continuous: Whether actions are continuous, where the name is of no domain.

    Raises:
        ValueError: If the kind is unknown.
    """
    domain_name, _, dataset = name.removeprefix(f"{NAMESPACE}/").partition("/")
    domain = DOMAINS.get(domain_name)
    if domain is None:
        return general_recipe(kind, continuous)
    general = general_recipe(kind, continuous=isinstance(domain.action_space, spaces.Box))
    own = domain.recipes.get(dataset, {}) if kind == "default" else {}
    return replace(general, **{**domain.recipes.get(kind, {}), **own})
