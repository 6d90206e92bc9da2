"""Three of our datasets in a folder of their own, and the cards of two."""

from contextlib import contextmanager

import pytest

from persim_gym.datasets.card import write_card

RANDOM = "persim/cartpole/random-v0"
EPS = "persim/cartpole/pure-eps-20-v0"
PENDULUM = "persim/pendulum/random-v0"


@contextmanager
def three_datasets(root, place_dataset):
    """Places the datasets in a folder, which is then Minari's; no policies but bundled ones."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(root))
        patch.setenv("PERSIM_HOME", str(root / "home"))
        for dataset_id in (RANDOM, EPS, PENDULUM):
            place_dataset(dataset_id, root)
        yield root


def two_cards(out):
    """Writes the cards of CartPole's two into a folder."""
    for dataset_id in (RANDOM, EPS):
        write_card(dataset_id, out)
    return out
