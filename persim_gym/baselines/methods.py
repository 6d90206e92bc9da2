"""All methods of the thesis and ours: what each may see, and the command that runs it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Method:
    """A way to a policy, or to predictions, from logged data.

    Attributes:
        name: What it is called here.
        kind: "model-based", "model-free" or "reference".
        sees: What it may see of an agent beside observations; covariates never, but for the references.
        command: What runs it.
        source: Where it comes from.
    """

    name: str
    kind: str
    sees: str
    command: str
    source: str


METHODS = (
    Method("PerSim + MPC", "model-based", "agent number", "persim plan DATASET", "thesis ch. 4"),
    Method(
        "unfactorized PerSim", "model-based", "agent number", "persim train DATASET --variant unfactorized",
        "thesis sec. 5.3",
    ),
    Method(
        "unpersonalized PerSim", "model-based", "nothing", "persim train DATASET --variant unpersonalized",
        "thesis sec. 5.3",
    ),
    Method("cadm", "model-based", "history", "persim baseline cadm DATASET", "Lee et al. 2020"),
    Method("pe-ts-cadm", "model-based", "history", "persim baseline pe-ts-cadm DATASET", "Lee et al. 2020"),
    Method("bcq-p", "model-free", "nothing", "persim baseline bcq-p DATASET", "Fujimoto et al. 2019"),
    Method("bcq-a", "model-free", "agent number", "persim baseline bcq-a DATASET", "Fujimoto et al. 2019"),
    Method("bc", "model-free", "nothing", "persim baseline bc DATASET", "ours: the floor of offline methods"),
    Method("iql", "model-free", "nothing", "persim baseline iql DATASET", "ours: Kostrikov et al. 2022"),
    Method(
        "PerSim + PPO, DQN, SAC, TD3", "model-based", "agent number", "persim train-policy DATASET",
        "thesis sec. 6.2",
    ),
    Method("true environment + MPC", "reference", "covariates", "persim plan DOMAIN --truth", "thesis ch. 5"),
    Method(
        "true environment + PPO, DQN, SAC, TD3", "reference", "covariates",
        "persim train-policy DATASET --truth", "ours",
    ),
)  # fmt: skip
"""In the order of the thesis's tables, each kind's own additions after it."""
