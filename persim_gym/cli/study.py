"""Verbs of studies: measurements of the project's own claims, beyond the thesis's tables."""

from pathlib import Path
from typing import Annotated

import typer

from persim_gym.cli.options import (
    Address,
    Agent,
    Agents,
    Backend,
    Force,
    SimulatorName,
    Workers,
    chosen_agents,
    resumable,
)
from persim_gym.cli.output import numbers, say
from persim_gym.jobs import JobPlace
from persim_gym.storage import check_own_file, write_page

app = typer.Typer(no_args_is_help=True, help="Measure what documents claim.")


@app.command()
@resumable
def accuracy(
    domain: Annotated[list[str] | None, typer.Option(help="Domains. (default: mountaincar and cartpole)")] = None,
    policy: Annotated[list[str] | None, typer.Option(help="Logging policies. (default: all four)")] = None,
    variation: Annotated[
        list[str] | None,
        typer.Option(help="default, thesis, a named change of the default recipe, or all. (default: default)"),
    ] = None,
    seeds: Annotated[str, typer.Option(help="Seeds of the trainings.")] = "0",
    out: Annotated[Path, typer.Option(help="Folder of accuracy.csv and the simulators.")] = Path("persim-out/accuracy"),
    page: Annotated[Path | None, typer.Option(help="Write docs/accuracy.md there, from all rows so far.")] = None,
    workers: Workers = None,
    backend: Backend = "local",
    address: Address = None,
    force: Force = False,
) -> None:
    """Train simulators and print their prediction errors beside the thesis's Tables B.1-B.3; resumable."""
    from persim_gym.studies.accuracy import LOGGING_POLICIES, read_rows, run_accuracy
    from persim_gym.studies.accuracy_report import ablation_tables, accuracy_page, error_tables, same_data_tables
    from persim_gym.studies.sensitivity import SENSITIVITY_FILE as SET_OFF
    from persim_gym.studies.test_policies import TEST_POLICIES_FILE as OTHERS

    if page is not None:
        check_own_file(page, force)
    run_accuracy(
        domain or ["mountaincar", "cartpole"],
        policy or LOGGING_POLICIES,
        out,
        variations=variation or ["default"],
        seeds=numbers(seeds),
        workers=workers,
        backend=backend,
        address=address,
    )
    rows = read_rows(out / "accuracy.csv")
    say(error_tables(rows))
    for more in (same_data_tables(rows), ablation_tables(rows)):
        if more.strip():
            say(more)
    if page is not None:
        others, set_off = (read_rows(out / file) if (out / file).is_file() else [] for file in (OTHERS, SET_OFF))
        write_page(page, accuracy_page(rows, others, set_off))


@app.command()
@resumable
def test_policies(
    domain: Annotated[list[str] | None, typer.Option(help="Domains. (default: halfcheetah)")] = None,
    test_seeds: Annotated[str, typer.Option(help="Seeds of the test policies; 0 is the bundled one's.")] = "1,2",
    out: Annotated[Path, typer.Option(help="Folder of `persim study accuracy`.")] = Path("persim-out/accuracy"),
    workers: Workers = None,
    backend: Backend = "local",
    address: Address = None,
) -> None:
    """Train other test policies and print the simulators' errors under them; a HalfCheetah's takes 20 minutes."""
    from persim_gym.studies.accuracy_report import other_policies_tables
    from persim_gym.studies.test_policies import run_test_policies

    rows = run_test_policies(
        domain or ["halfcheetah"],
        out,
        test_seeds=numbers(test_seeds),
        workers=workers,
        backend=backend,
        address=address,
    )
    say(other_policies_tables(rows))


@app.command()
@resumable
def sensitivity(
    domain: Annotated[list[str] | None, typer.Option(help="Domains. (default: the thesis's three)")] = None,
    episodes: Annotated[int, typer.Option(min=1, help="Episodes an agent.")] = 200,
    out: Annotated[Path, typer.Option(help="Folder of sensitivity.csv.")] = Path("persim-out/accuracy"),
    workers: Workers = None,
    backend: Backend = "local",
    address: Address = None,
) -> None:
    """Print what the true dynamics score when started a little off, or set off at every step; resumable."""
    from persim_gym.datasets.registry import THESIS_DOMAINS
    from persim_gym.studies.sensitivity import run_sensitivity, sensitivity_table

    place: JobPlace = {"workers": workers, "backend": backend, "address": address}
    say(sensitivity_table(run_sensitivity(domain or THESIS_DOMAINS, out, episodes=episodes, **place)))


@app.command("training")
@resumable
def policy_training(
    domain: Annotated[list[str] | None, typer.Option(help="Domain. (default: cartpole and mountaincar)")] = None,
    agents: Agents = None,
    agent: Agent = None,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds an agent and place.")] = 3,
    out: Annotated[Path, typer.Option(help="Folder of returns.csv, table.md and the policies.")] = Path(
        "persim-out/training"
    ),
    workers: Workers = None,
    backend: Backend = "local",
    address: Address = None,
    force: Force = False,
) -> None:
    """Train policies in the simulator and in the true environment; the same command goes on where it stopped."""
    from persim_gym.studies.policy_training import CHOSEN_ALGORITHMS, run_policy_training, training_table

    check_own_file(out / "table.md", force)
    place: JobPlace = {"workers": workers, "backend": backend, "address": address}
    rows = run_policy_training(domain or list(CHOSEN_ALGORITHMS), chosen_agents(agents, agent), seeds, out, **place)
    table = training_table(rows)
    write_page(out / "table.md", table)
    say(table)


@app.command()
@resumable
def personalize(
    domain: Annotated[list[str] | None, typer.Option(help="Domains. (default: the thesis's three)")] = None,
    draws: Annotated[int, typer.Option(help="Random draws of transitions an agent and number of them.")] = 5,
    episodes: Annotated[int, typer.Option(min=0, help="Episodes of MPC, likewise; 0 for none.")] = 5,
    steps: Annotated[
        int | None, typer.Option(help="Longest episode of MPC. (default: the domain's limit; HalfCheetah 50)")
    ] = None,
    workers: Workers = None,
    backend: Backend = "local",
    address: Address = None,
    out: Annotated[Path, typer.Option(help="Folder of simulators and results.")] = Path("personalize-study"),
    figure: Annotated[Path | None, typer.Option(help="PNG to write. (default: in the folder)")] = None,
    force: Force = False,
) -> None:
    """Simulate and steer agents that training never saw, by the number of their transitions."""
    from persim_gym.studies.personalize import run_personalize_study
    from persim_gym.studies.personalize_report import personalize_figure, personalize_tables

    if figure is not None:
        check_own_file(figure, force)
    place: JobPlace = {"workers": workers, "backend": backend, "address": address}
    studied = domain or ["cartpole", "mountaincar", "halfcheetah"]
    results = {d: run_personalize_study(d, out, draws, episodes, steps, **place) for d in studied}
    say(personalize_tables(results))
    personalize_figure(results, figure or out / "personalize.png")


@app.command()
def trust(
    simulator: SimulatorName,
    strangers: Annotated[
        str | None, typer.Option(help="Path of a simulator trained without agents 0-4. (default: none)")
    ] = None,
) -> None:
    """Measure whether trust horizons keep their promise under a policy and for agents they were not calibrated on."""
    from persim_gym.simulator.diagnostics.trust import Trust
    from persim_gym.simulator.registry import load_simulator
    from persim_gym.studies.trust import run_trust_study, trust_table

    rows = run_trust_study(simulator, strangers)
    limits = Trust.from_json(load_simulator(simulator).card.trust)
    say(trust_table(rows, limits))


@app.command()
@resumable
def quantization(
    simulator: Annotated[
        str, typer.Argument(help="Name or path of a simulator of continuous actions.")
    ] = "halfcheetah/random-v0",
    agents: Agents = None,
    agent: Agent = None,
    episodes: Annotated[int, typer.Option(min=1, help="Episodes an agent.")] = 12,
    steps: Annotated[int, typer.Option(help="Longest episode.")] = 200,
    workers: Workers = None,
    backend: Backend = "local",
    address: Address = None,
    out: Annotated[Path, typer.Option(help="CSV file, a row an episode and arithmetic; kept rows count.")] = Path(
        "persim-out/quantization.csv"
    ),
) -> None:
    """Plan the same episodes in bytes and in float32, and print the paired difference of their returns; resumable."""
    from persim_gym.studies.quantization import quantization_table, run_quantization_study

    place: JobPlace = {"workers": workers, "backend": backend, "address": address}
    rows = run_quantization_study(simulator, chosen_agents(agents, agent), episodes, steps, out, **place)
    say(quantization_table(rows))


@app.command()
def polish(
    simulator: Annotated[str, typer.Argument(help="Name or path of one trained with polish=false and refine=0.")],
    population: Annotated[int, typer.Option(min=6, help="Agents of the population that count, from 0.")] = 45,
    episodes: Annotated[int, typer.Option(min=1, help="Episodes an agent.")] = 100,
) -> None:
    """Measure what the closed-form polish of learned factors does to the open-loop error."""
    from persim_gym.studies.polish import measure_polish

    say(measure_polish(simulator, population, episodes))


@app.command()
@resumable
def offline_rl(
    domain: Annotated[list[str] | None, typer.Option(help="Domain. (default: cartpole and mountaincar)")] = None,
    source: Annotated[list[str] | None, typer.Option(help="What BCQ is trained on. (default: all sources)")] = None,
    episodes: Annotated[int, typer.Option(min=1, help="Simulated episodes an agent.")] = 1,
    iterations: Annotated[int, typer.Option(min=1, help="Updates of BCQ.")] = 30_000,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds a domain and source.")] = 3,
    out: Annotated[Path, typer.Option(help="Folder of offline-rl.csv, table.md and the policies.")] = Path(
        "persim-out/offline-rl"
    ),
    workers: Workers = None,
    backend: Backend = "local",
    address: Address = None,
    force: Force = False,
) -> None:
    """Train BCQ on logged, true and simulated trajectories, and print what it earns in the truth."""
    from persim_gym.studies.offline_rl import SOURCES, offline_rl_table, run_offline_rl

    check_own_file(out / "table.md", force)
    rows = run_offline_rl(
        domain or ["cartpole", "mountaincar"],
        source or list(SOURCES),
        out,
        episodes=episodes,
        iterations=iterations,
        seeds=seeds,
        workers=workers,
        backend=backend,
        address=address,
    )
    table = offline_rl_table(rows)
    write_page(out / "table.md", table)
    say(table)


@app.command()
@resumable
def compare(
    simulators: Annotated[
        list[str] | None,
        typer.Option(
            "--simulator", help="DOMAIN=NAME-OR-PATH. (default: the bundled ones of mountaincar and cartpole)"
        ),
    ] = None,
    agents: Agents = None,
    agent: Agent = None,
    noise: Annotated[str, typer.Option(help="Of the simulators, as `persim compare` takes it.")] = "auto",
    out: Annotated[Path, typer.Option(help="Folder of compare.csv, table.md and the trained candidates.")] = Path(
        "persim-out/compare"
    ),
    workers: Workers = None,
    backend: Backend = "local",
    address: Address = None,
    force: Force = False,
) -> None:
    """Measure how right `persim compare` is: ranking, regret, error and intervals beside true returns; resumable."""
    from persim_gym.studies.compare import COMPARED_AGENTS, compare_table, run_compare_study, unlike_table

    check_own_file(out / "table.md", force)
    default = [f"{domain}={domain}/random-v0" for domain in ("mountaincar", "cartpole")]
    named = dict(text.partition("=")[::2] for text in simulators or default)
    chosen = chosen_agents(agents, agent, ",".join(map(str, COMPARED_AGENTS)))
    place: JobPlace = {"workers": workers, "backend": backend, "address": address}
    rows = run_compare_study(named, chosen, out, noise=noise, **place)
    table = f"{compare_table(rows)}\n{unlike_table(rows)}"
    write_page(out / "table.md", table)
    say(table)
