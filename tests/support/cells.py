"""A scale at which a cell takes a moment."""

from persim_gym.reproduce.protocol import Effort, Scale

FEW = (("candidates", 6), ("horizon", 3))
SMALL = Scale(
    trials=1,
    prediction_episodes=5,
    agents=(0, 1),
    effort=Effort(2, steps=4, planner=FEW),
    efforts={
        "persim-cem": Effort(2, steps=4, planner=(*FEW, ("elites", 2))),
        "bcq-p": Effort(2, steps=4, training=3),
        "bcq-a": Effort(2, steps=4, training=3),
        "cadm": Effort(2, steps=4, planner=FEW, training=3),
        "pe-ts-cadm": Effort(2, steps=4, planner=FEW, training=3),
    },
)
