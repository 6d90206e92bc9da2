"""The whole page: what it holds, that it needs nothing else, and what it looks like to a browser."""

import base64
import json
import re
import shutil
import subprocess
from dataclasses import replace
from html import escape
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from support.simulators import own_simulator
from support.tables import machine_rows, write_csv

from persim_gym import report, train
from persim_gym.datasets import from_table
from persim_gym.labels import Labels
from persim_gym.simulator.registry import load_simulator
from persim_gym.transition_store import write_transitions

EVIL = "<script>alert(1)</script>"
WORDY = "mpc:cem:candidates=100:horizon=30:iterations=4:elites=10 or whatever else one may call a candidate"
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)


class Page(HTMLParser):
    """Tags of a page, and its words."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags, self.words, self.source = [], "", path.read_text(encoding="utf-8")
        self.feed(self.source)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words += data

    def named(self, tag: str) -> list[dict[str, str]]:
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture
def own(tmp_path):
    """A simulator of no domain, of which nothing was measured and whose data are gone, with names that are no good."""
    simulator = load_simulator(str(own_simulator(tmp_path / "own", "", starts=True)))
    labels = Labels(
        agents=(EVIL, "B", 'C" onload="x', "D&D"), observations=("</style>", "b", "c", "d"), choices=("a", "<i>")
    )
    interface = replace(simulator.spec, labels=labels).to_json()
    return replace(simulator, card=replace(simulator.card, interface=interface))


@pytest.fixture
def car(save_car):
    return load_simulator(str(save_car()))


def test_a_simulator_of_no_domain_says_what_is_not_known(own, tmp_path):
    page = Page(report(own, [EVIL, "D&D"], out=tmp_path / "page.html"))
    for words in (
        "there is no true environment",
        "Errors on data that it has not seen are not known",
        "how often that is kept, is not known",
        "The data that it was trained on are not here",
        "trained without beliefs",
        "Its log is not here",
        "which was not measured",
        f"Agent {EVIL}",
        "Agent D&D",
    ):
        assert words in page.words, words
    assert "Agent B" not in page.words


def test_names_are_words_and_never_markup(own, tmp_path):
    page = Page(report(own, [EVIL, 2], out=tmp_path / "page.html"))
    assert EVIL not in page.source and "onload" not in {key for _, attrs in page.tags for key in attrs}
    assert len(page.named("script")) == 2 and len(page.named("style")) == 1 and not page.named("i")
    circles = [attrs["data-n"] for attrs in page.named("circle") if "data-n" in attrs]
    assert sorted(circles) == list("0123")


def test_it_needs_nothing_else(own, tmp_path):
    page = Page(report(own, out=tmp_path / "page.html"))
    assert not {"link", "img", "iframe", "object"} & {tag for tag, _ in page.tags}
    assert not re.search(r"https?:|url\(|@import|\bsrc=|fetch\(", page.source)
    assert "default-src 'none'" in page.source and "prefers-color-scheme: dark" in page.source


def test_every_picture_is_well_formed_and_named(car, cars, tmp_path):
    page = report(car, [0, 4], data=cars, out=tmp_path / "page.html", episodes=2).read_text(encoding="utf-8")
    pictures = [ElementTree.fromstring(found) for found in re.findall(r"<svg .*?</svg>", page, re.S)]
    named = [picture for picture in pictures if picture.get("class") != "mark"]
    assert len(named) > 10 and all(picture.get("aria-label") and len(picture) for picture in named)


def test_a_domain_has_its_truth_and_its_names(car, cars, tmp_path):
    page = Page(report(car, [0, 4], data=cars, out=tmp_path / "page.html", episodes=2))
    assert "gravity 0.0001" in page.words and "2 episodes an agent" in page.words and "median R²" in page.words
    assert [attrs["label"] for attrs in page.named("optgroup")] == ["true covariates, never seen", "logged"]
    names = re.findall(r"<option value=\d+>(.*?)</option>", page.source)
    assert names[:2] == ["gravity", "mean reward a step"] and len(names) == 1 + 2 + 2 * 2
    assert "position" in names[3] and "100 transitions in 1 trajectory" in page.words


def test_an_agent_that_was_added_has_no_true_environment(cars, tmp_path, monkeypatch):
    monkeypatch.setattr("persim_gym.reports.write.logged_data", gone)
    simulator = load_simulator().personalize(cars.select(cars.agent == 0), names=["new"])
    page = Page(report(simulator, ["new"], out=tmp_path / "page.html"))
    assert "They have no true environment here" in page.words.replace("they", "They")
    assert "Agent new" in page.words and "the data are gone" in page.words and "without data" not in page.words


def test_agents_without_data_are_pale(tmp_path, monkeypatch):
    monkeypatch.setattr("persim_gym.reports.write.logged_data", gone)
    simulator = load_simulator()
    seen = simulator.beliefs.statistics.seen.clone()
    seen[7] = 0
    statistics = replace(simulator.beliefs.statistics, seen=seen)
    page = Page(
        report(
            replace(simulator, beliefs=replace(simulator.beliefs, statistics=statistics)), [], out=tmp_path / "p.html"
        )
    )
    assert "Agents without data (1) are pale" in page.words
    assert [attrs["data-n"] for attrs in page.named("circle") if attrs.get("class") == "unseen"] == ["7"]


def test_of_data_on_disk_a_sample_is_looked_at(car, cars, tmp_path, monkeypatch):
    store = write_transitions(tmp_path / "store", [cars], n_agents=6, source=cars.source)
    monkeypatch.setattr("persim_gym.reports.write.logged_data", lambda simulator: store)
    monkeypatch.setattr("persim_gym.reports.write.SAMPLED_EPISODES", 6)
    page = Page(report(car, [2], out=tmp_path / "page.html", episodes=1))
    assert "of 6 of their episodes at most" in page.words and "100 transitions in 1 trajectory" in page.words


def gone(simulator):
    """In place of `logged_data`."""
    raise ValueError("the data are gone")


def test_the_same_seed_writes_the_same_file(car, cars, tmp_path):
    one, same, other = (
        report(car, [1], data=cars, out=tmp_path / f"{i}.html", episodes=2, seed=seed).read_bytes()
        for i, seed in enumerate((0, 0, 1))
    )
    assert one == same and one != other


def test_rows_of_a_comparison_go_to_their_agents(own, tmp_path):
    table = tmp_path / "compared.csv"
    table.write_text("agent,candidate,mean,low,high\nB,mpc,1.25,1,2\n")
    page = Page(report(own, ["B", "D&D"], compare=table, out=tmp_path / "page.html"))
    assert "1.25" in page.words and "has no rows of this agent" in page.words


def test_what_was_not_written_by_persim_stays(own, tmp_path):
    page = tmp_path / "page.html"
    page.write_text("mine")
    with pytest.raises(ValueError, match="was not written by persim"):
        report(own, out=page)
    assert report(own, out=page, force=True) == page
    report(own, out=page)


@pytest.mark.parametrize(
    "agents, match", [([9], "agent 9 is not in"), (["X"], "agent X is none of"), ("B", r"give \['B'\]")]
)
def test_an_unknown_agent_is_one_clear_line(own, tmp_path, agents, match):
    with pytest.raises(ValueError, match=match) as error:
        report(own, agents, out=tmp_path / "page.html")
    assert "\n" not in str(error.value) and not (tmp_path / "page.html").exists()


def test_other_data_are_refused(car, cars, tmp_path):
    with pytest.raises(ValueError, match="are not what simulator mountaincar/tiny-v0 was trained on"):
        report(car, data=cars.select(cars.agent < 3), out=tmp_path / "page.html")


CHECK = """<script>
const wrong = [], said = console.error;
console.error = (...words) => { wrong.push(words.join(" ")); said(...words); };
addEventListener("error", event => wrong.push(event.message));
addEventListener("securitypolicyviolation", event => wrong.push(event.violatedDirective));
addEventListener("load", () => {
  document.querySelectorAll("details").forEach(each => each.open = true);
  const pictures = Array.from(document.querySelectorAll("svg:not(.mark)"));
  const empty = pictures.filter(picture => {
    const box = picture.getBoundingClientRect(), drawn = picture.querySelectorAll("path.line, path.bar, circle");
    const seen = Array.from(drawn).some(each => { const b = each.getBBox(); return b.width > 0 || b.height > 0; });
    return box.width < 100 || box.height < 50 || !seen;
  });
  const points = Array.from(document.querySelectorAll("#atlas-map circle")), select = document.querySelector("select");
  const colors = () => points.map(point => getComputedStyle(point).fill).join("|"), found = new Set();
  for (const option of select.options) {
    select.value = option.value;
    select.dispatchEvent(new Event("change"));
    found.add(colors());
  }
  points[0].dispatchEvent(new Event("mouseenter"));
  const told = document.getElementById("atlas-said").textContent;
  const wide = document.documentElement.scrollWidth - innerWidth;
  const cut = pictures.flatMap(picture => {
    const outer = picture.getBoundingClientRect();
    return Array.from(picture.querySelectorAll("text")).filter(text => {
      const own = text.getBoundingClientRect(), room = 1;
      return own.width && (own.left < outer.left - room || own.right > outer.right + room ||
        own.top < outer.top - room || own.bottom > outer.bottom + room);
    }).map(text => text.textContent);
  });
  const scrolls = each => ["auto", "scroll"].includes(getComputedStyle(each).overflowX);
  const beside = Array.from(document.querySelectorAll("body *")).filter(each => {
    for (let above = each.parentElement; above; above = above.parentElement) if (scrolls(above)) return false;
    const box = each.getBoundingClientRect();
    return box.width && (box.right > innerWidth + 1 || box.left < -1);
  }).map(each => each.outerHTML.slice(0, 80));
  const counts = {pictures: pictures.length, empty: empty.length, options: select.options.length, seen: found.size};
  const result = {wrong, told, wide, cut, beside, width: innerWidth, ...counts};
  const pre = document.createElement("pre");
  pre.id = "checked";
  pre.textContent = btoa(unescape(encodeURIComponent(JSON.stringify(result))));
  (parent === window ? document : parent.document).body.append(pre);
});
</script>"""


def in_a_browser(page: Path, width: int) -> dict:
    """What a page says of itself in headless Chromium, and what it prints to the console.

    A window is at least 500 pixels wide there: a narrower page is in a frame of its own width.
    """
    checked, profile = page.with_name("checked.html"), page.with_name("profile")
    source = page.read_text(encoding="utf-8").replace("<style>", f"{CHECK}<style>", 1)
    if width < 500:
        source = f'<!DOCTYPE html><meta charset="utf-8"><iframe width={width} height=900 srcdoc="{escape(source)}" \
style="border: 0"></iframe>'
    checked.write_text(source, encoding="utf-8")
    flags = (
        "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --enable-logging=stderr"
    )
    command = [BROWSER, *flags.split(), f"--user-data-dir={profile}", f"--window-size={width},900", "--dump-dom"]
    ran = subprocess.run(
        [*command, "--virtual-time-budget=3000", checked.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    console = [line for line in ran.stderr.splitlines() if "CONSOLE" in line]
    found = re.search(r'<pre id="checked">(.*?)</pre>', ran.stdout)
    assert found is not None, ran.stdout[-2000:]
    return {**json.loads(base64.b64decode(found[1])), "console": console}


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="there is no Chromium here")
@pytest.mark.filterwarnings("ignore:.*None:UserWarning:minari", "ignore::tqdm.TqdmExperimentalWarning")
@pytest.mark.parametrize("kind", ["domain", "own table"])
@pytest.mark.parametrize("width", [1400, 500, 400])
def test_a_browser_shows_every_picture_and_recolours_the_map(kind, width, tmp_path, home, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    simulator = load_simulator()
    if kind == "own table":
        rows = machine_rows(machines=20, steps=60)
        rows["machine_id"] = [name.replace("M-003", EVIL) for name in rows["machine_id"]]
        roles = {"agent": "machine_id", "time": "timestamp", "obs": ["temp", "pressure"], "action": "valve"}
        more = {"reward": "reward", "exogenous": ["load"], "static": ["age"], "terminated": "failed"}
        from_table(write_csv(tmp_path / "fleet.csv", rows), name="my/fleet-v0", **roles, **more)
        simulator = train("my/fleet-v0", settings=["members=2", "state_layers=[32]"], epochs=4, progress=False)
    agents = [3, EVIL] if kind == "own table" else [3, 17]
    table = tmp_path / "compared.csv"
    name = simulator.agent_name(3)
    rows = [f"{name},{WORDY},-121.25,-140,-100.5,0.75,0.5,-99", f"{name},mpc,1.25,1,2,0.25,0.5,-100"]
    table.write_text("\n".join(["agent,candidate,mean,low,high,best,beats,fitted_q", *rows]))
    page = report(simulator, agents, compare=table, out=tmp_path / "page.html", episodes=5)
    found = in_a_browser(page, width)
    assert found["wrong"] == [] and found["console"] == []
    assert found["pictures"] > 10 and found["empty"] == 0
    assert found["width"] == width and found["wide"] <= 0 and found["cut"] == [] and found["beside"] == []
    assert found["options"] > 5 and found["seen"] == found["options"]
    assert found["told"].startswith("Agent ")
