"""Simulators on a model hub: what is sent comes back the same, and nothing that comes is run."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
from support.hub_server import serve_hub
from typer.testing import CliRunner

from persim_gym.cli import app
from persim_gym.envs import DOMAINS
from persim_gym.front_matter import without_front_matter
from persim_gym.sharing import SHARED, pull, push
from persim_gym.simulator.registry import load_simulator, simulator_folder
from persim_gym.spec import EnvironmentSpec
from persim_gym.storage import CARD, MEASURED, README, WEIGHTS

pytest.importorskip("huggingface_hub")
pytestmark = [
    pytest.mark.usefixtures("home"),
    # Of how the library itself asks its own for a large file.
    pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning"),
]
NAME = "cartpole/random-v0"
HELPER = "import pathlib\npathlib.Path(__file__).with_name('imported').touch()\n"


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub of this test alone, whose token is known; no cache or token of the user is read."""
    with serve_hub() as served:
        monkeypatch.setenv("HF_ENDPOINT", served.address)
        monkeypatch.setenv("HF_TOKEN", served.token)
        monkeypatch.setattr(
            "huggingface_hub.constants.HF_HUB_DISABLE_XET", True
        )  # Files go by LFS, as the server has it.
        yield served


def simulator_of_others(hub, task, tmp_path):
    """Puts a simulator there whose card names a task to import."""
    domain = DOMAINS["cartpole"]
    spec = EnvironmentSpec(domain.observation_space, domain.action_space, 20, task)
    bundled = load_simulator(NAME)
    folder = replace(bundled, card=replace(bundled.card, interface=spec.to_json())).save(tmp_path / "theirs")
    hub.repositories["them/poles"] = {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_is_sent_comes_back_the_same(hub):
    address = push(NAME, "somebody/poles", private=True)
    assert address == f"{hub.address}/somebody/poles" and hub.private == {"somebody/poles"}
    bundled = load_simulator(NAME)
    sent = hub.repositories["somebody/poles"]
    own = {name for name in SHARED if (bundled.folder / name).is_file()}
    assert set(sent) - {".gitattributes"} == own | {README}
    folder = pull("somebody/poles")
    assert folder == simulator_folder("somebody/poles")
    fetched = load_simulator("somebody/poles")
    assert fetched.card == bundled.card
    assert {path.name for path in folder.iterdir()} == own | {README}
    for name in own:
        assert (folder / name).read_bytes() == (bundled.folder / name).read_bytes()
    obs = np.zeros((1, 1, 4), dtype=np.float32)
    np.testing.assert_array_equal(
        *(s.rows([17])(np.repeat(obs, s.model.config.members, 0), np.array([1])) for s in (fetched, bundled))
    )


def test_sending_again_is_a_new_version(hub):
    push(NAME, "somebody/poles")
    before = hub.version("somebody/poles")
    push("mountaincar/random-v0", "somebody/poles")
    assert hub.version("somebody/poles") != before
    assert pull("somebody/poles", name="cars/theirs") == simulator_folder("cars/theirs")
    assert load_simulator("cars/theirs").card.domain == "mountaincar"


def test_the_page_that_is_sent_has_a_header_that_hubs_read(hub):
    yaml = pytest.importorskip("yaml")
    push(NAME, "somebody/poles")
    page = hub.repositories["somebody/poles"][README].decode()
    header = yaml.safe_load(page.split("---\n")[1])
    assert header["license"] == "mit" and header["library_name"] == "persim_gym" and "cartpole" in header["tags"]
    metrics = header["model-index"][0]["results"][0]["metrics"]
    assert {metric["type"] for metric in metrics} == set(header["metrics"])
    card = json.loads(hub.repositories["somebody/poles"][CARD])
    assert [m["value"] for m in metrics if "open-loop" in m["name"]][: len(card["error"]["open_loop"])] == [
        value for value in card["error"]["open_loop"] if value is not None
    ]
    assert without_front_matter(page).startswith("# Simulator")


@pytest.mark.parametrize("trust", [False, True])
def test_nothing_that_is_fetched_is_imported(hub, trust, tmp_path, monkeypatch):
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "module_of_others.py").write_text(HELPER + "task = None\n")
    monkeypatch.syspath_prepend(tmp_path / "code")
    simulator_of_others(hub, "module_of_others:task", tmp_path)
    hub.repositories["them/poles"] |= {"module_of_others.py": HELPER.encode(), "sub/weights.safetensors": b"x"}
    done = CliRunner().invoke(app, ["share", "pull", "them/poles", *(["--trust"] if trust else [])])
    assert done.exit_code == 0, done.output
    assert not (tmp_path / "code" / "imported").exists() and "module_of_others" not in sys.modules
    assert {path.name for path in simulator_folder("them/poles").iterdir()} <= {CARD, WEIGHTS, MEASURED, README}
    if trust:
        assert "would import" not in done.output and load_simulator("them/poles").n_agents == 500
    else:
        assert "would import module 'module_of_others'" in done.output.replace("\n", " ")
        with pytest.raises(ValueError, match="would import module 'module_of_others'"):
            load_simulator("them/poles")


def test_another_simulator_of_that_name_stays(hub):
    push("mountaincar/random-v0", "somebody/poles")
    load_simulator(NAME).save(simulator_folder("somebody/poles"))
    with pytest.raises(ValueError, match="holds other weights; --force replaces them"):
        pull("somebody/poles")
    assert load_simulator("somebody/poles").card.domain == "cartpole"
    pull("somebody/poles", force=True)
    assert load_simulator("somebody/poles").card.domain == "mountaincar"


@pytest.mark.parametrize("file", [CARD, WEIGHTS])
def test_what_is_damaged_takes_no_place(hub, file):
    push(NAME, "somebody/poles")
    hub.repositories["somebody/poles"][file] = b"{}"
    with pytest.raises(ValueError) as caught:
        pull("somebody/poles")
    assert "\n" not in str(caught.value) and not simulator_folder("somebody/poles").exists()


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: pull("nobody/nothing"), r"nobody/nothing on the hub: .*look whether the name is right"),
        (lambda: pull("poles"), "'poles' is no repository, such as somebody/pumps"),
        (lambda: pull("../poles"), "is no name of a simulator"),
        (lambda: push("nowhere/at-all-v0", "somebody/poles"), "no simulator 'nowhere/at-all-v0'"),
    ],
)
def test_what_cannot_be_is_one_line(hub, call, said):
    with pytest.raises((ValueError, KeyError), match=said) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_who_may_not_send_is_told_what_to_do(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "another")
    with pytest.raises(ValueError, match="log in with `hf auth login`") as caught:
        push(NAME, "somebody/poles")
    assert "\n" not in str(caught.value) and not hub.repositories


def test_without_the_library_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ValueError, match=r"sharing needs huggingface_hub: pip install 'persim-gym\[hub\]'"):
        pull("somebody/poles")
