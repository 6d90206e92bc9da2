"""All figures show a method in one color, which every reader can tell from the others, and write what they show."""

import csv
from itertools import combinations

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from persim_gym.datasets.registry import THESIS_DOMAINS
from persim_gym.reproduce.figures.style import COLORS, MARKERS, write_figure
from persim_gym.reproduce.protocol import METHODS
from persim_gym.storage import SIGNATURE

LEAST_DISTANCE = 15  # In CIELAB; about two are just seen side by side.
XYZ = np.array([[0.4125, 0.3576, 0.1804], [0.2127, 0.7152, 0.0722], [0.0193, 0.1192, 0.9503]])
VISION = {  # What linear RGB looks like to readers: Machado et al. (2009), severity 1.
    "normal": np.eye(3),
    "protanopia": np.array([[0.1523, 1.0526, -0.2049], [0.1145, 0.7863, 0.0993], [-0.0039, -0.0481, 1.0520]]),
    "deuteranopia": np.array([[0.3673, 0.8606, -0.2280], [0.2801, 0.6725, 0.0474], [-0.0118, 0.0429, 0.9690]]),
    "tritanopia": np.array([[1.2555, -0.0767, -0.1788], [-0.0784, 0.9308, 0.1476], [0.0047, 0.6914, 0.3039]]),
}


def seen(color, vision):
    """A color in CIELAB, [3]."""
    rgb = np.array(to_rgb(color))
    linear = VISION[vision] @ np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    x, y, z = np.cbrt(XYZ @ linear.clip(1e-3, 1) / XYZ.sum(axis=1))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("vision", VISION)
def test_colors_of_methods_are_told_apart(vision):
    for one, other in combinations(METHODS, 2):
        apart = np.linalg.norm(seen(COLORS[one], vision) - seen(COLORS[other], vision))
        assert apart > LEAST_DISTANCE, f"{one} and {other}"


def test_every_method_and_domain_has_its_own():
    assert set(COLORS) == set(METHODS) and len(set(COLORS.values())) == len(METHODS)
    assert set(MARKERS) == set(THESIS_DOMAINS) and len(set(MARKERS.values())) == len(THESIS_DOMAINS)


def test_the_numbers_lie_beside_the_picture(tmp_path):
    beside = write_figure(Figure(), [{"what": "a", "value": 1 / 3}, {"what": "b", "value": 2.0}], tmp_path / "a.png")
    assert SIGNATURE.encode() in (tmp_path / "a.png").read_bytes()
    assert list(csv.reader(beside.read_text().splitlines())) == [["what", "value"], ["a", "0.333333"], ["b", "2"]]


def test_a_picture_of_nothing_is_refused(tmp_path):
    with pytest.raises(ValueError, match="a.png would be a picture of no numbers; run cells that it shows first"):
        write_figure(Figure(), [], tmp_path / "a.png")
    assert not list(tmp_path.iterdir())
