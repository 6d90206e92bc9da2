"""Verbs of `persim datasets`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import JustifyMethod

from persim_gym.cli.options import Force, Seed, resumable
from persim_gym.cli.output import console, plain_table, say

if TYPE_CHECKING:
    from persim_gym.datasets.registry import DatasetSpec

app = typer.Typer(help="Minari datasets: list, build and describe them.", no_args_is_help=True)

COLUMNS: dict[str, JustifyMethod] = {
    "dataset": "left",
    "built": "left",
    "transitions": "right",
    "mean return": "right",
    "hash": "left",
}


@app.command("list")
def datasets_list() -> None:
    """List the datasets that can be built, and what those that are built hold."""
    from persim_gym.datasets import DATASETS
    from persim_gym.datasets.minari_files import dataset_folder, read_metadata

    table = plain_table(COLUMNS)
    for dataset_id, recipe in DATASETS.items():
        if not (dataset_folder(dataset_id) / "data").is_dir():
            table.add_row(dataset_id, "needs loggers" if recipe.missing_loggers else "no")
            continue
        try:
            metadata = read_metadata(dataset_id)
        except ValueError:  # What is wrong is said where it is loaded.
            table.add_row(dataset_id, "damaged")
            continue
        mean = f"{metadata['mean_return']:.1f}" if "mean_return" in metadata else "?"
        table.add_row(
            dataset_id, "yes", f"{metadata['total_steps']:,}", mean, str(metadata.get("content_hash", "?"))[:8]
        )
    console.print(table)


def _chosen(dataset_ids: list[str] | None, domain: str | None, everything: bool) -> "dict[str, DatasetSpec]":
    """The recipes that a command's arguments name; all of a domain, or all, without ids."""
    from persim_gym.datasets.registry import DATASETS, dataset_spec
    from persim_gym.envs.hetero import domain_of

    if bool(dataset_ids) + (domain is not None) + everything > 1:
        raise ValueError("give dataset ids, or --domain, or --all")
    if domain is not None:
        domain_of(domain)
    if dataset_ids:
        return {dataset_id: dataset_spec(dataset_id) for dataset_id in dataset_ids}
    return {dataset_id: recipe for dataset_id, recipe in DATASETS.items() if domain in (None, recipe.domain.name)}


@app.command("build")
@resumable
def datasets_build(
    dataset_ids: Annotated[
        list[str] | None,
        typer.Argument(help="Minari ids, e.g. persim/mountaincar/random-v0. (default: see --domain and --all)"),
    ] = None,
    domain: Annotated[str | None, typer.Option(help="Build all of this domain.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Build all that can be built.")] = False,
) -> None:
    """Build datasets into Minari's folder; those that exist are left alone. Ctrl-C leaves no half dataset."""
    from persim_gym.datasets.collect import build

    if not dataset_ids and domain is None and not everything:
        raise ValueError("say which datasets to build: their ids, --domain NAME, or --all; `persim datasets list`")
    for dataset_id, recipe in _chosen(dataset_ids, domain, everything).items():
        if not dataset_ids and (missing := recipe.missing_loggers):
            text = f"left out, needs {', '.join(missing)}: persim datasets train-loggers --domain {recipe.domain.name}"
            say(f"{dataset_id}: {text}")
        else:
            say(f"{dataset_id}: {build(recipe)}")


@app.command("card")
def datasets_card(
    dataset_ids: Annotated[
        list[str] | None,
        typer.Argument(help="Minari ids; built when they are missing. (default: all that are built)"),
    ] = None,
    domain: Annotated[str | None, typer.Option(help="All of this domain that are built.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the cards. (default: beside each dataset)")] = None,
    force: Force = False,
) -> None:
    """Write a card a dataset: Markdown and a histogram of returns, from the data, beside the thesis's figures."""
    from minari.storage import get_dataset_path

    from persim_gym.datasets.card import write_card

    chosen = _chosen(dataset_ids, domain, everything=False)
    wanted = [dataset_id for dataset_id in chosen if dataset_ids or get_dataset_path(dataset_id).exists()]
    if not wanted:
        raise ValueError("none of the datasets is built; run `persim datasets build`, or name those that you want")
    for dataset_id in wanted:
        say(f"{dataset_id}: {write_card(dataset_id, out, force=force)}")


@app.command("train-loggers")
@resumable
def datasets_train_loggers(
    domain: Annotated[str, typer.Option(help="Domain whose logging and test policies to train.")],
    name: Annotated[list[str] | None, typer.Option(help="Policies: logger-0, ..., test. (default: all)")] = None,
    seed: Seed = 0,
    out: Annotated[Path | None, typer.Option(help="Folder of all policies. (default: $PERSIM_HOME/policies)")] = None,
) -> None:
    """Train the logging and test policies again; an interrupted training goes on."""
    import torch

    from persim_gym.datasets.behavior.train import train_behavior_policies

    torch.set_num_threads(1)  # The networks are too small to be shared between threads.
    train_behavior_policies([domain], name, seed, out)
