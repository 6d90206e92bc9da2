"""Comparisons of policies as `persim compare` writes them."""

from html import unescape

import pytest

from persim_gym.labels import Labels
from persim_gym.reports.compared import compared_part, of_agent, read_compared

NAMES = {
    "own": "agent,candidate,mean,low,high,best,beats,fitted_q,steps,lost",
    "short": "agent,candidate,mean,low,high,p_best,p_beats_logged,fqe,steps,lost",
}


@pytest.mark.parametrize("header", NAMES.values(), ids=NAMES)
def test_candidates_of_an_agent_come_best_first(tmp_path, header):
    path = tmp_path / "compared.csv"
    path.write_text(f"{header}\nA,mpc,2.5,1,4,0.75,0.9,,9,0\nB,mpc,1,0,2,1,1,1,9,0\nA,<b>,3,2,5,0.25,,2.75,9,0\n")
    rows = of_agent(read_compared(path), 0, Labels(agents=("A", "B")))
    assert [row.candidate for row in rows] == ["<b>", "mpc"]
    assert rows[1].others["is the best"] == 0.75 and rows[1].others["fitted Q"] is None
    page = compared_part(rows)
    assert "75%" in page and "2.75" in page and "<b>" not in page and "&lt;b&gt;" in page


def test_columns_that_are_not_there_are_left_out(tmp_path):
    path = tmp_path / "compared.csv"
    path.write_text("agent,candidate,mean\n7,mpc,2.5\n")
    page = compared_part(of_agent(read_compared(path), 7, Labels()))
    assert "2.5" in page and "fitted Q" not in page and "is the best" not in page
    assert not of_agent(read_compared(path), 6, Labels())


def test_a_long_name_is_whole_in_the_table_and_fits_the_picture(tmp_path):
    path, long = tmp_path / "compared.csv", "mpc:" + "<&>" * 30 + ":end"
    path.write_text(f"agent,candidate,mean\n7,{long},2.5\n")
    page = compared_part(of_agent(read_compared(path), 7, Labels()))
    picture, _, table = page.partition("</svg>")
    assert unescape(table).count(long) == 1 and long not in unescape(picture)
    assert "mpc:<&>" in unescape(picture) and "…" in picture and ":end</text>" in picture


@pytest.mark.parametrize(("objective", "said"), [("return", "mean return"), ("terminal", "mean last reward")])
def test_a_page_says_what_an_episode_is_worth(tmp_path, objective, said):
    path = tmp_path / "compared.csv"
    path.write_text(f"agent,candidate,mean,objective\n7,mpc,2.5,{objective}\n")
    page = compared_part(of_agent(read_compared(path), 7, Labels()))
    assert said in page and f"{said.removeprefix('mean ')} of an episode, simulated" in page


@pytest.mark.parametrize(
    "text", ["", "a,b\n1,2\n", "agent,candidate,mean\nA,mpc,\n", "agent,candidate,mean\nA,mpc,x\n"]
)
def test_another_table_is_one_clear_line(tmp_path, text):
    path = tmp_path / "other.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match="write it again with `persim compare --out`") as error:
        read_compared(path)
    assert "\n" not in str(error.value)


def test_a_missing_file_says_what_writes_one(tmp_path):
    with pytest.raises(ValueError, match="there is no file .*`persim compare --out"):
        read_compared(tmp_path / "none.csv")
