"""The data that a simulator was trained on."""

from persim_gym.baselines.cadm.simulator import CadmSimulator
from persim_gym.datasets.load import load
from persim_gym.simulator.simulator import Simulator
from persim_gym.transition_store import hash_on_disk
from persim_gym.transitions import Transitions


def logged_data(simulator: Simulator | CadmSimulator) -> Transitions:
    """The data that a simulator, or a model that takes its place, was trained on.

    Raises:
        ValueError: If the dataset of that name is another one now, or is gone.
    """
    card = simulator.card
    transitions = simulator.with_past(load(card.dataset, spec=simulator.spec))
    if card.dataset_hash not in (transitions.content_hash(), hash_on_disk(transitions)):
        raise ValueError(
            f"{card.dataset} is not what simulator {card.name} was trained on (its content has another hash); bring "
            "the old one back, or train again"
        )
    return transitions
