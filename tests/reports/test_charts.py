"""Pictures as inline SVG: round ticks, broken lines, and nothing that is not finite."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from persim_gym.reports.charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Line, axis, chart, legend

STEPS = np.arange(1.0, 7.0)


def svg_of(picture: str) -> ElementTree.Element:
    found = re.search(r"<svg.*</svg>", picture, re.S)
    assert found is not None
    return ElementTree.fromstring(found[0])


def of_class(picture: str, name: str) -> list[str]:
    return [each.get("d", "") for each in svg_of(picture).iter() if name in each.get("class", "").split()]


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("low, high", [(0.001, 0.5), (1.0, 1.0), (3.0, 3.1), (2e-7, 4e6), (40.0, 60.0)])
def test_ticks_are_few_ascend_and_lie_on_the_axis(low, high, log):
    found = axis([np.array([low, high, np.nan, np.inf])], 0.0, 100.0, log)
    ticks = found.ticks()
    places = found.at(np.array(ticks))
    assert 2 <= len(ticks) <= 7 and (np.diff(ticks) > 0).all()
    assert (places > -5).all() and (places < 105).all()
    assert 0 <= float(found.at(np.array(low))) <= float(found.at(np.array(high))) <= 100


def test_a_line_is_broken_where_a_value_is_not_known():
    picture = chart("x", [Line("a", STEPS, np.array([1.0, 2.0, np.nan, 3.0, np.inf, 4.0]), color=2)], "step")
    (path,) = of_class(picture, "line")
    assert path.count("M") == 1 and len(of_class(picture, "dot")) == 2  # one run of two points, and two lone points
    assert "nan" not in picture and "inf" not in picture


def test_everything_is_drawn_inside_of_the_picture():
    y = np.array([-3.0, 8.0, 1e-3, 4.0, 2.0, 1.0])
    picture = chart("x", [Line("a", STEPS, y, 1, y - 1, y + 1)], "step")
    (band,), (line,) = of_class(picture, "band"), of_class(picture, "line")
    pairs = np.array(re.findall(r"([-\d.]+) ([-\d.]+)", f"{band} {line}"), dtype=np.float64)
    assert len(pairs) == 3 * len(STEPS)
    assert (pairs >= [LEFT, TOP]).all() and (pairs <= [WIDTH - RIGHT, HEIGHT - BOTTOM]).all()


def test_a_log_axis_leaves_out_what_has_no_logarithm():
    picture = chart("x", [Line("a", STEPS, np.array([0.0, 1e-3, 1e-2, 1e-1, 1.0, 10.0]))], "step", log=True, log_x=True)
    (path,) = of_class(picture, "line")
    assert path.count("L") == 4 and ">0.01<" in picture


def test_nothing_at_all_is_still_a_picture():
    empty = np.empty(0)
    assert svg_of(chart("x", [Line("a", empty, empty)], "step")).get("aria-label") == "x"


def test_long_lines_are_thinned_and_whole_numbers_have_whole_ticks():
    long = np.arange(10_000.0)
    thin = chart("x", [Line("a", long, long % 2, dots=True, joined=False)], "step", whole=True)
    assert 500 < len(of_class(thin, "dot")) <= 600 and not of_class(thin, "line")
    ticks = [each.text for each in svg_of(thin).iter() if each.get("class") == "y"]
    assert ticks == ["0", "1"]


def test_names_are_escaped():
    line = Line("<script>a&b</script>", STEPS, STEPS)
    for found in (chart('<b>"x"', [line], "<i>"), legend([line])):
        assert not {"<script>", "<b>", "<i>"} & set(re.findall(r"<\w+>", found))
    assert svg_of(chart('<b>"x"', [line], "<i>")).get("aria-label") == '<b>"x"'
