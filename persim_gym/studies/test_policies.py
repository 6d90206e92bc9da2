"""What the simulators of `persim study accuracy` score under test policies of other seeds: how much hangs on the one.

A test policy decides where its agents go and how chaotically, and so the error of any simulator. The thesis's is not
published; ours is one of many that training to the same return ends in.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from typing_extensions import Unpack

from persim_gym.datasets.behavior.policies import (
    TEST,
    PolicyNetwork,
    load_behavior_policy,
    policy_covariates,
    policy_names,
    read_behavior_policy,
)
from persim_gym.datasets.behavior.train import train_behavior_policy
from persim_gym.jobs import JobPlace, RowLog, run_jobs
from persim_gym.simulator.registry import load_simulator
from persim_gym.storage import CARD
from persim_gym.studies.accuracy import (
    ACCURACY_COLUMNS,
    DEFAULT,
    LOGGING_POLICIES,
    agent_errors,
    study_simulator_folder,
)

TEST_POLICIES_FILE = "test-policies.csv"
TEST_POLICY_JOB = ("domain", "policy", "test_seed")
MEAN_RETURN = "mean_return"  # Column of the return of the test policy on the default agent.


def trained_test_policy(domain: str, test_seed: int, out: Path) -> PolicyNetwork:
    """A test policy of a seed of its own; trained as the bundled one is where `out` holds none.

    Args:
        domain: Name of the domain.
        test_seed: Seed of its training; 0 is the bundled one's.
        out: Folder of the study.

    Raises:
        ValueError: If a logger is an earlier stage of the same training.
    """
    for name in policy_names(domain):
        logger = name != TEST and policy_covariates(domain, name) == policy_covariates(domain, TEST)
        if logger and (card := load_behavior_policy(domain, name).card) and card.seed == test_seed:
            raise ValueError(f"{name} of {domain} was trained with seed {test_seed} on the same agent; choose another")
    folder = out / _test_policy_folder(domain, test_seed)
    if not (folder / CARD).is_file():
        train_behavior_policy(domain, TEST, test_seed, folder.parents[1], progress=False)
    return read_behavior_policy(folder, domain)


def _test_policy_folder(domain: str, test_seed: int) -> Path:
    """Where it is, in the folder of the study."""
    return Path("test-policies") / str(test_seed) / domain / TEST


def train_test_policy(domain: str, test_seed: int, folder: Path) -> dict[str, float]:
    """Trains a test policy unless the study's folder holds it; runs in a worker process.

    Returns:
        Its mean return on the default agent.
    """
    card = trained_test_policy(domain, test_seed, folder).card
    assert card is not None
    return {MEAN_RETURN: card.mean_return}


def errors_under(domain: str, policy: str, test_seed: int, folder: Path) -> dict[str, float]:
    """Errors of the default simulator of seed 0 under a test policy; runs in a worker process.

    Args:
        domain: Name of the domain.
        policy: Logging policy of the dataset.
        test_seed: Seed of the test policy.
        folder: Of the study.

    Returns:
        Mean RMSE and median R² of each test agent, and the test policy's mean return.
    """
    simulator = load_simulator(str(study_simulator_folder(folder / "simulators", domain, policy, DEFAULT, 0)))
    measured = agent_errors(simulator, domain, trained_test_policy(domain, test_seed, folder))
    return {**measured, **train_test_policy(domain, test_seed, folder)}


def run_test_policies(
    domains: Sequence[str], out: Path, *, test_seeds: Sequence[int] = (1, 2), **place: Unpack[JobPlace]
) -> list[dict[str, str]]:
    """Trains test policies and measures the default simulators of `out` under each; what is there is not done again.

    Args:
        domains: Names of domains.
        out: Folder of `persim study accuracy`, with its simulators.
        test_seeds: Seeds of the test policies.
        **place: See `JobPlace`.

    Returns:
        A row a logging policy that has a simulator and a test policy.

    Raises:
        ValueError: If a domain has no simulator in `out`.
    """
    found = {
        domain: [
            p
            for p in LOGGING_POLICIES
            if (study_simulator_folder(out / "simulators", domain, p, DEFAULT, 0) / CARD).is_file()
        ]
        for domain in domains
    }
    for domain, policies in found.items():
        if not policies:
            raise ValueError(f"no simulator of {domain} in {out}; run `persim study accuracy --domain {domain}` first")
    pairs = [{"domain": domain, "test_seed": seed} for domain in domains for seed in test_seeds]
    trained = RowLog(out / "test-policies" / "returns.csv", ("domain", "test_seed"), (MEAN_RETURN,))

    def policy_of(job: Mapping[str, Any]) -> str:
        return _test_policy_folder(job["domain"], job["test_seed"]).as_posix()

    def simulator_of(job: Mapping[str, Any]) -> str:
        return study_simulator_folder(Path("simulators"), job["domain"], job["policy"], DEFAULT, 0).as_posix()

    run_jobs(
        train_test_policy,
        pairs,
        trained,
        description="test policies",
        folder=out,
        reads=lambda job: [policy_of(job)],
        **place,
    )
    jobs = [{**pair, "policy": policy} for pair in pairs for policy in found[str(pair["domain"])]]
    log = RowLog(out / TEST_POLICIES_FILE, TEST_POLICY_JOB, (*ACCURACY_COLUMNS, MEAN_RETURN))
    return run_jobs(
        errors_under,
        jobs,
        log,
        description="simulators",
        folder=out,
        reads=lambda job: [policy_of(job), simulator_of(job)],
        **place,
    )
