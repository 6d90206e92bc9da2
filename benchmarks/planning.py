"""Time of one planning decision, beside pytorch-mppi and TorchRL: `python benchmarks/planning.py`.

Needs the extra: pip install -c constraints.txt -e '.[benchmarks]'. Set OMP_NUM_THREADS to the number of cores.
Everything is measured in one process, in turns, on the threads that torch has; the time is the median of the rounds.
The peers plan in a plain multilayer perceptron with as many members; ours is PerSim's own network, which multiplies
three encoders and is larger. Nothing terminates but in the part `ends`, so that every candidate is rolled out whole.
"""

import argparse
import statistics
import time
import warnings
from collections.abc import Callable

import numpy as np
import torch

from persim_gym.envs import DOMAINS
from persim_gym.evaluation.intervals import mean_interval
from persim_gym.planning import CEM, MPC, Objective, RandomShooting, rollout_returns
from persim_gym.planning.scoring import best_first
from persim_gym.simulator.dynamics.agent import AgentDynamics
from persim_gym.simulator.dynamics.bind import bind_agent
from persim_gym.simulator.kernels.dense import VNNI, byte_products
from persim_gym.simulator.model.config import ModelConfig
from persim_gym.simulator.model.ensemble import FactoredEnsemble
from persim_gym.simulator.registry import load_simulator
from persim_gym.task import Ends, PlanningDynamics, Task, never

SMALL = ModelConfig(n_agents=10, obs_dim=4, n_actions=2, action_dim=0, rank=5, members=5, state_layers=(256,))
LARGE = ModelConfig(10, 18, 0, 6, rank=15, members=5, state_layers=(256,) * 4, action_layers=(256, 256))
PARTS = ("a", "b", "growth", "ends", "true", "agreement")
FORWARD = Task(lambda obs, action, next_obs: next_obs[..., 0], never)


def bound(shape: ModelConfig, quantize: bool = False) -> AgentDynamics:
    return bind_agent(FactoredEnsemble(shape).requires_grad_(False), 3, quantize)


def measure(contenders: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of a call of each, in turns."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(rounds + 1):
        for name, call in contenders.items():
            began = time.perf_counter()
            call()
            if turn:  # the first only warms up
                seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in seconds.items()}


def matrix_peak(dtype: torch.dtype) -> float:
    """Operations a second of a large matrix product."""
    a, b = (30 * torch.randn(2, 2048, 2048)).to(dtype)
    product = torch._int_mm if dtype == torch.int8 else torch.matmul
    return 2 * 2048**3 / min(measure({"product": lambda: product(a, b)}, 1)["product"] for _ in range(20))


def operations(shape: ModelConfig, rollouts: int) -> float:
    """Arithmetic operations of PerSim's network in so many steps of candidates and members."""
    head = shape.obs_dim if shape.n_actions else shape.obs_dim * shape.rank
    layers = [(shape.obs_dim, *shape.state_layers, head)]
    if not shape.n_actions:
        layers.append((shape.action_dim, *shape.action_layers, shape.rank))
    return 2.0 * rollouts * sum(i * o for sizes in layers for i, o in zip(sizes[:-1], sizes[1:], strict=True))


class PlainEnsemble(torch.nn.Module):
    """What a user of the peers writes: an ensemble of multilayer perceptrons; rows hold every member's observation."""

    def __init__(self, shape: ModelConfig) -> None:
        """Draws weights for models of this shape."""
        super().__init__()
        self.members, self.size = shape.members, shape.obs_dim
        actions = shape.action_dim or 1
        sizes = (shape.obs_dim + actions, *shape.state_layers, shape.obs_dim)
        self.weights = [torch.randn(self.members, i, o) / i**0.5 for i, o in zip(sizes[:-1], sizes[1:], strict=True)]
        self.biases = [torch.zeros(self.members, 1, o) for o in sizes[1:]]

    def forward(self, rows: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        """Next rows, [..., M * D], of rows and actions, [..., A]."""
        obs = rows.reshape(-1, self.members, self.size).transpose(0, 1)
        x = torch.cat([obs, action.reshape(1, len(obs[0]), -1).expand(self.members, -1, -1)], dim=-1)
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            x = torch.relu_(torch.baddbmm(bias, x, weight))
        following = obs + 0.1 * torch.baddbmm(self.biases[-1], x, self.weights[-1])
        return following.transpose(0, 1).reshape(rows.shape)

    def reward(self, rows: torch.Tensor) -> torch.Tensor:
        """Mean over members of the first component, [...]."""
        return rows.unflatten(-1, (self.members, self.size))[..., 0].mean(-1)


def mppi_peer(shape: ModelConfig, candidates: int, horizon: int, iterations: int) -> Callable[[], object]:
    from pytorch_mppi import MPPI

    model, actions = PlainEnsemble(shape), shape.action_dim or 1
    planner = MPPI(
        model,
        lambda rows, action: -model.reward(rows),
        shape.members * shape.obs_dim,
        torch.eye(actions) * 0.3,
        num_samples=candidates,
        horizon=horizon,
        u_min=-torch.ones(actions),
        u_max=torch.ones(actions),
    )
    start = torch.zeros(shape.members * shape.obs_dim)

    def decide() -> None:
        for _ in range(iterations):
            planner.command(start, shift_nominal_trajectory=False)

    return torch.no_grad()(decide)


def torchrl_peer(
    shape: ModelConfig, candidates: int, horizon: int, iterations: int, elites: int
) -> Callable[[], object]:
    from tensordict import TensorDict
    from tensordict.nn import TensorDictModule
    from torchrl.data import Bounded, Composite, Unbounded
    from torchrl.envs.model_based import ModelBasedEnvBase
    from torchrl.modules import CEMPlanner, WorldModelWrapper

    model, actions = PlainEnsemble(shape), shape.action_dim or 1
    size = shape.members * shape.obs_dim

    class World(ModelBasedEnvBase):
        def __init__(self, world: torch.nn.Module) -> None:
            super().__init__(world, batch_size=[])
            self.state_spec = Composite(observation=Unbounded((size,)))
            self.observation_spec = Composite(observation=Unbounded((size,)))
            self.action_spec = Bounded(-1.0, 1.0, (actions,))
            self.reward_spec = Unbounded((1,))

        def _reset(self, tensordict: TensorDict) -> TensorDict:
            return TensorDict({"observation": torch.zeros(size)}, batch_size=[])

    world = WorldModelWrapper(
        TensorDictModule(model, in_keys=["observation", "action"], out_keys=["observation"]),
        TensorDictModule(lambda rows: model.reward(rows)[..., None], in_keys=["observation"], out_keys=["reward"]),
    )
    env = World(world)
    planner = CEMPlanner(env, horizon, iterations, candidates, elites)
    start = TensorDict(
        {
            "observation": torch.zeros(size),
            "done": torch.zeros(1, dtype=torch.bool),
            "terminated": torch.zeros(1, dtype=torch.bool),
        },
        batch_size=[],
    )
    return torch.no_grad()(lambda: planner(start.clone()))


def ours(
    shape: ModelConfig, planner: RandomShooting | CEM, rows: int = 1, quantize: bool = False
) -> Callable[[], object]:
    space = DOMAINS["cartpole" if shape.n_actions else "halfcheetah"].action_space
    policy = MPC(bound(shape, quantize), FORWARD, space, planner=planner)
    obs = np.zeros((rows, shape.obs_dim), dtype=np.float32)
    return lambda: policy.predict(obs)


def case(title: str, shape: ModelConfig, planner: RandomShooting | CEM, rounds: int) -> None:
    """One row a planner: milliseconds, ratio to the best peer, share of the matrix-product peaks."""
    iterations = getattr(planner, "iterations", 1)
    sizes = (planner.candidates, planner.horizon, iterations)
    contenders = {
        "pytorch-mppi": mppi_peer(shape, *sizes),
        "TorchRL": torchrl_peer(shape, *sizes, max(1, planner.candidates // 4)),
        "persim_gym": ours(shape, planner),
    }
    if not shape.n_actions and byte_products():
        contenders["in bytes"] = ours(shape, planner, quantize=True)
    seconds = measure(contenders, rounds)
    best = min(seconds[name] for name in list(contenders)[:2])
    work = operations(shape, planner.candidates * planner.horizon * shape.members * iterations)
    print(f"\n{title}")
    for name, value in seconds.items():
        print(f"  {name:14s} {value * 1e3:8.1f} ms   best peer / this: {best / value:5.2f}")
    for name, dtype in (("persim_gym", torch.float32), ("in bytes", torch.int8)):
        if name in seconds and (dtype == torch.float32 or byte_products() == VNNI):
            rate, peak = work / seconds[name], matrix_peak(dtype)
            kind = str(dtype).removeprefix("torch.")
            print(f"  {name}: {rate / 1e9:.0f} G/s, {rate / peak:.0%} of the {kind} matrix peak {peak / 1e9:.0f}")


def growth(rounds: int) -> None:
    """Time a decision over C, H and M, and a row alone and among others."""
    print("\ngrowth of case A: ms, and µs for a thousand steps of a candidate and member")
    for name, values in (("C", (500, 1000, 2000, 4000)), ("H", (25, 50, 100, 200)), ("M", (2, 5, 10, 20))):
        for value in values:
            c, h, m = (value if name == one else usual for one, usual in (("C", 1000), ("H", 50), ("M", 5)))
            shape = ModelConfig(10, 4, 2, 0, 5, m, (256,))
            seconds = measure({"": ours(shape, RandomShooting(c, h))}, rounds)[""]
            print(f"  {name} = {value:4d}  {seconds * 1e3:7.1f} ms  {seconds * 1e6 / (c * h * m / 1e3):5.0f}")
    print("\n20 episodes")
    planner = RandomShooting()
    alone, together = ours(SMALL, planner), ours(SMALL, planner, rows=20)
    seconds = measure({"alone": lambda: [alone() for _ in range(20)], "together": together}, max(3, rounds // 4))
    for name, value in seconds.items():
        print(f"  {name:9s} {value * 1e3:7.1f} ms   of alone: {value / seconds['alone']:.2f}")


def ends(rounds: int) -> None:
    """Time of returns where candidates end on the way: told as a rule, by a function of the same, and if none did."""
    print("\nreturns of candidates that end: ms, beside the share of steps before the end")
    cases = [(name, True) for name in ("cartpole", "mountaincar")]
    for name, learned in [*cases, ("cartpole", False), ("mountaincar", False), ("hopper", False)]:
        domain, rng = DOMAINS[name], np.random.default_rng(0)
        dynamics = load_simulator(f"{name}/random-v0").dynamics(2) if learned else domain.dynamics(2)
        obs = np.array([0.3, 0.03]) if name == "mountaincar" else domain.observe(domain.initial_state(rng, 1)[0])
        space, shape = domain.action_space, (1000, 50) if domain.action_space.shape == () else (200, 30)
        drawn = rng.integers(space.n, size=shape) if space.shape == () else rng.uniform(-1, 1, (*shape, *space.shape))
        reward, terminated = domain.task
        tasks = {
            "rule": domain.task,
            "function": Task(reward, lambda next_obs, rule=terminated: rule(next_obs)),
            "never": Task(reward, never),
        }
        calls = {
            kind: lambda task=task, given=(dynamics, obs, drawn): rollout_returns(given[0], task, *given[1:])
            for kind, task in tasks.items()
        }
        one = Task(lambda obs, action, next_obs: next_obs[..., 0] * 0 + 1.0, terminated)
        share = rollout_returns(dynamics, one, obs, drawn).mean() / shape[1]
        times = "  ".join(f"{kind} {value * 1e3:6.2f}" for kind, value in measure(calls, rounds).items())
        print(f"  {name:12s} {'simulator' if learned else 'true':10s} {times}   share of steps {share:.0%}")


def true_robot(rounds: int) -> None:
    """A CEM decision in the true HalfCheetah beside mujoco.rollout alone."""
    import mujoco
    from mujoco.rollout import Rollout

    from persim_gym.envs.half_cheetah import ROBOT
    from persim_gym.envs.mujoco.physics import load_model, thread_count

    domain, threads = DOMAINS["halfcheetah"], thread_count()
    planner = CEM(iterations=1)
    policy = MPC(domain.dynamics(4), domain.task, domain.action_space, planner=planner)
    obs = domain.observe(domain.initial_state(np.random.default_rng(0), 1))
    model = load_model(ROBOT.xml)
    datas = [mujoco.MjData(model) for _ in range(threads)]
    start = np.zeros((planner.candidates, mujoco.mj_stateSize(model, mujoco.mjtState.mjSTATE_FULLPHYSICS)))
    start[:, ROBOT.qpos] = model.qpos0
    shape = (planner.candidates, planner.horizon, *domain.action_space.shape)
    control = np.random.default_rng(0).uniform(-1, 1, shape).repeat(ROBOT.frame_skip, axis=1)
    raw = Rollout(nthread=threads if threads > 1 else 0)
    calls = {
        "mujoco.rollout": lambda: raw.rollout([model] * planner.candidates, datas, start, control),
        "persim_gym": lambda: policy.predict(obs, episode_start=np.array([True])),
    }
    seconds = measure(calls, rounds)
    print(f"\ntrue HalfCheetah, {planner.candidates} x {planner.horizon}, {threads} threads")
    for name, value in seconds.items():
        rate = planner.candidates * planner.horizon / value
        print(f"  {name:14s} {value * 1e3:7.1f} ms  {rate:8.0f} environment steps/s")
    print(f"  share of the raw throughput: {seconds['mujoco.rollout'] / seconds['persim_gym']:.0%}")


class Reference(PlanningDynamics):
    """The plain float32 calls of a dynamics, which keeps the candidates that it is asked for."""

    fused = True

    def __init__(self, dynamics: AgentDynamics) -> None:
        """Wraps one agent's dynamics."""
        self.dynamics, self.members = dynamics, dynamics.members
        self.parts: list[np.ndarray] = []

    def rollout(
        self, obs: np.ndarray, actions: np.ndarray, ends: Ends | None = None, live: np.ndarray | None = None
    ) -> np.ndarray:
        """As `AgentDynamics.rollout`, step by step."""
        self.parts.append(actions)
        steps = []
        for t in range(actions.shape[1]):
            obs = self.dynamics(obs, actions[:, t])
            steps.append(obs)
        return np.stack(steps, axis=2)

    def populations(self, iterations: int) -> list[np.ndarray]:
        """Candidates of each iteration, [C, H, A]; where nothing terminates."""
        each = len(self.parts) // iterations
        return [np.concatenate(self.parts[i : i + each], axis=1) for i in range(0, len(self.parts), each)]


def agreement(name: str, agents: range, decisions: int, quantize: bool) -> None:
    """How far fused rollouts choose as the plain float32 `Dynamics` does, on a trained simulator.

    Each agent is moved through its true environment by the plans of the fused rollouts, from a start state.
    """
    simulator = load_simulator(name)
    domain = DOMAINS[simulator.card.domain]
    objective, space = Objective(domain.peak_bonus), domain.action_space
    planner = RandomShooting() if simulator.model.config.n_actions else CEM()
    elites = getattr(planner, "elites", 20)
    overlaps, earned = [], []
    for agent in agents:
        fused, truth = simulator.dynamics(agent, quantize), domain.dynamics(agent)
        obs = domain.observe(domain.initial_state(np.random.default_rng(agent), 1)[0]).astype(np.float32)
        previous = None
        for t in range(decisions):
            plain = Reference(fused)
            plans = [
                planner.plan(
                    model,
                    domain.task,
                    obs,
                    space,
                    np.random.default_rng([agent, t]),
                    previous=previous,
                    objective=objective,
                )[0]
                for model in (plain, fused)
            ]
            if isinstance(planner, CEM):
                populations = plain.populations(planner.iterations)
            else:
                size = (planner.candidates, planner.horizon)
                populations = [np.random.default_rng([agent, t]).integers(simulator.model.config.n_actions, size=size)]
            best = [
                [set(best_first(rollout_returns(d, domain.task, obs, a, objective), elites)) for d in (plain, fused)]
                for a in populations
            ]
            overlaps.append([len(one & other) / elites for one, other in best])
            both = np.stack([plan.sequence for plan in plans])
            earned.append([rollout_returns(d, domain.task, obs, both, objective) for d in (plain, truth)])
            previous = plans[1]
            obs = truth(obs[None], previous.sequence[:1])[0].astype(np.float32)
            if domain.task.terminated(obs):
                break
    print(f"\n{name}: fused against plain float32, {len(agents)} agents, {len(overlaps)} decisions, ", end="")
    print(type(planner).__name__)
    print("  elites in common, by iteration:", *(f"{share:.1%}" for share in np.mean(overlaps, axis=0)))
    for where, returns in zip(("simulator, float32", "true environment"), np.array(earned).swapaxes(0, 1), strict=True):
        mean, low, high = mean_interval(returns[:, 1] - returns[:, 0])
        means = returns.mean(axis=0)
        print(f"  return of the chosen plan, {where}: {means[0]:.3f} (float32), {means[1]:.3f} (fused), ", end="")
        print(f"difference {mean:+.3f}, 95 % interval {low:+.3f} to {high:+.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*", default=list(PARTS), help=f"of {', '.join(PARTS)}; all by default")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--simulators", nargs="*", default=["mountaincar/random-v0", "cartpole/random-v0"])
    parser.add_argument("--agents", type=int, default=20, help="of the check of agreement")
    parser.add_argument("--decisions", type=int, default=10, help="of each of them, one after the other")
    parser.add_argument("--quantize", action="store_true", help="check the agreement of rollouts in bytes")
    arguments = parser.parse_args()
    if unknown := set(arguments.what) - set(PARTS):
        parser.error(f"{', '.join(sorted(unknown))}: not one of {', '.join(PARTS)}")
    warnings.filterwarnings("ignore")  # the peers'
    torch.manual_seed(0)
    print(f"{torch.get_num_threads()} threads")
    if "a" in arguments.what:
        for activation in ("relu", "silu"):
            shape = ModelConfig(10, 4, 2, 0, 5, 5, (256,), (), activation)
            case(f"case A, {activation}: 1000 x 50 x 5 members", shape, RandomShooting(), arguments.rounds)
    if "b" in arguments.what:
        for activation in ("relu", "silu"):
            shape = ModelConfig(10, 18, 0, 6, 15, 5, (256,) * 4, (256, 256), activation)
            title = f"case B, {activation}: 200 x 30 x 5 members x 5 iterations"
            case(title, shape, CEM(iterations=5), max(3, arguments.rounds // 4))
    if "growth" in arguments.what:
        growth(arguments.rounds)
    if "ends" in arguments.what:
        ends(arguments.rounds)
    if "true" in arguments.what:
        true_robot(arguments.rounds)
    if "agreement" in arguments.what:
        for name in arguments.simulators:
            agreement(name, range(arguments.agents), arguments.decisions, arguments.quantize)


if __name__ == "__main__":
    main()
