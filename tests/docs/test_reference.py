"""The reference has every public name, verb, option, environment, dataset and simulator."""

import importlib.util
import inspect
import re
import sys
from importlib import import_module
from pathlib import Path

import pytest

import persim_gym
from persim_gym.datasets import DATASETS
from persim_gym.envs import DOMAINS
from persim_gym.paths import ASSETS

DOCS = Path(__file__).parents[2] / "docs"
_SPEC = importlib.util.spec_from_file_location("reference", DOCS / "reference.py")
assert _SPEC is not None and _SPEC.loader is not None
reference = sys.modules["reference"] = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(reference)
from reference import PYTHON_PAGES, command_line_page, pages, public_names, verbs  # noqa: E402

CARDS = {path.relative_to(DOCS / "datasets").with_suffix("").as_posix() for path in DOCS.glob("datasets/*/*.md")}
PAGES = pages(CARDS)
PLACES = [place for page in PYTHON_PAGES.values() for place in page.modules]
PACKAGES = ("persim_gym", *(f"persim_gym.{name}" for name in ("envs", "datasets", "planning", "policies", "simulator")))
VERBS = dict(verbs())


def parts_of(page: str) -> dict[str, str]:
    """Sections of the page of verbs, by verb."""
    return {
        section.partition(" {")[0]: section
        for section in re.split(r"^## persim ", page, flags=re.M)[1:]
    }  # fmt: skip


def test_every_generated_page_is_in_the_navigation():
    navigation = (DOCS.parent / "mkdocs.yml").read_text(encoding="utf-8")
    assert all(page in navigation for page in PAGES)


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_has_an_entry(package):
    entries = set(re.findall(r"^::: (\S+)$", "\n".join(PAGES.values()), re.M))
    for name in import_module(package).__all__:
        front = f"persim_gym.{name}"
        assert (
            f"{package}.{name}" in entries or (name in persim_gym.__all__ and front in entries) or name == "__version__"
        )


def test_no_name_has_two_entries_and_all_are_linked():
    entries = re.findall(r"^::: (\S+)$", "\n".join(PAGES.values()), re.M)
    assert len(entries) == len(set(entries)) > 60
    linked = set(re.findall(r"\]\[(persim_gym\.\S+?)\]", PAGES["reference/python/index.md"]))
    assert linked == set(entries)


@pytest.mark.parametrize("place", PLACES)
def test_every_entry_is_there_and_says_what_it_is(place):
    for name in public_names(place):
        module, _, attribute = name.rpartition(".")
        value = getattr(import_module(module), attribute)
        assert not callable(value) or inspect.getdoc(value)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_its_options_and_what_they_do(verb):
    section = parts_of(command_line_page())[verb]
    for parameter in VERBS[verb].params:
        if parameter.param_type_name == "argument":
            assert f"| `{parameter.name.upper()}` |" in section
        else:
            assert parameter.opts[0] in section
        assert parameter.help, f"{verb} {parameter.name} says nothing"


@pytest.mark.parametrize(
    ("verb", "row"),
    [
        ("train", "| `--recipe` | default, or thesis for the thesis's own. | `default` |"),
        (
            "train",
            "| `SIMULATOR` | Simulator to train: DOMAIN/POLICY-v0 after its dataset, or any Minari id. | required |",
        ),
        ("evaluate", '| `--agents` | Numbers and ranges, "0-4,17", or names. | 0-4 |'),
    ],
)
def test_an_option_has_its_default(verb, row):
    assert row in parts_of(command_line_page())[verb]


def test_all_environments_datasets_and_simulators_are_listed():
    environments = (DOCS / "environments.md").read_text(encoding="utf-8")
    assert all(f"## {domain.env_id}\n" in environments for domain in DOMAINS.values())
    assert all(f"| `{name}` |" in PAGES["reference/datasets.md"] for name in DATASETS)
    assert all(f"../datasets/{card}.md" in PAGES["reference/datasets.md"] for card in CARDS)
    bundled = [path.parent.relative_to(ASSETS / "simulators") for path in (ASSETS / "simulators").rglob("card.json")]
    assert bundled and all(f"| `{name.as_posix()}` |" in PAGES["reference/simulators.md"] for name in bundled)
