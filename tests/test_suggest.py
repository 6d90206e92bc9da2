"""What somebody may have meant."""

import pytest

from persim_gym.suggest import suggestion

MANY = [f"{domain}/{policy}-v0" for domain in ("cartpole", "ant", "hopper") for policy in ("pure", "random", "mixed")]


@pytest.mark.parametrize(
    ("word", "known", "said"),
    [
        ("hopper", MANY, "did you mean hopper/pure-v0 or hopper/random-v0 or hopper/mixed-v0?"),
        ("ant/randm-v0", MANY, "did you mean ant/random-v0"),
        ("zzz", MANY, f"known: {', '.join(MANY[:8])}, …"),
        ("pppo", ["ppo", "dqn"], "did you mean ppo? known: ppo, dqn"),
        ("", ["ppo"], "known: ppo"),
        ("x", [], "there are none"),
    ],
)
def test_names_like_a_word(word, known, said):
    assert suggestion(word, known).startswith(said)
