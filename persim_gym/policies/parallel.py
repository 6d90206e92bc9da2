"""One policy an agent for many agents at once, on this machine's cores or on a Ray cluster."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from typing_extensions import Unpack

from persim_gym.jobs import JobPlace, check_place, run_unlogged
from persim_gym.policies import PolicyTraining, TrainedPolicy, read_policy, run_training, with_defaults
from persim_gym.simulator.registry import load_simulator


def train_policies(
    training: PolicyTraining,
    agents: Sequence[int],
    out: str | Path,
    *,
    tensorboard: bool = False,
    force: bool = False,
    progress: bool = True,
    **place: Unpack[JobPlace],
) -> list[TrainedPolicy]:
    """Trains one policy an agent; agents whose result file is there are not trained again.

    On this machine a training that was cut off goes on from its checkpoint. On Ray a node trains in a folder of its own
    and sends the policy back, so that no shared disk is needed, and a training that was cut off starts anew.

    Args:
        training: What to train; its `agent` is replaced by each of `agents`.
        agents: Agents of the simulator.
        out: Folder: see `run_training`.
        tensorboard: Whether to write TensorBoard's logs; local only.
        force: Whether to train anew, whatever is there.
        progress: Whether to show a progress bar.
        **place: See `JobPlace`; on Ray each node needs the simulator under the same name or path.

    Returns:
        The policies in the order of `agents`.

    Raises:
        JobsFailed: If trainings failed again and again; the others are there.
        ValueError: If the place does not exist, an agent is unknown, or as `run_training`.
    """
    if tensorboard and place.get("backend") == "ray":
        raise ValueError("TensorBoard's logs are written on this machine only; leave them out with Ray")
    check_place(place.get("backend", "local"), place.get("address"))
    load_simulator(training.simulator).model.check_agents(agents)
    out, done = Path(out), dict[int, TrainedPolicy]()
    for agent in agents:
        wanted, result = with_defaults(replace(training, agent=agent)), out / f"agent-{agent}.json"
        if result.exists() and not force:
            done[agent] = read_policy(result, wanted)

    def keep(job: Mapping[str, Any], policy: TrainedPolicy) -> None:
        done[job["agent"]] = policy

    run_unlogged(
        _train_one,
        [{"agent": agent} for agent in dict.fromkeys(agents) if agent not in done],
        keep,
        description="policies",
        constants={"training": training, "tensorboard": tensorboard, "force": force},
        done=len(done),
        progress=progress,
        folder=out,
        **place,
    )
    return [done[agent] for agent in agents]


def _train_one(agent: int, training: PolicyTraining, folder: Path, tensorboard: bool, force: bool) -> TrainedPolicy:
    """Trains the policy of one agent, in a worker process."""
    return run_training(replace(training, agent=agent), folder, False, tensorboard, force)
