"""Tables and figure of the study of new agents."""

import numpy as np

from persim_gym.simulator.diagnostics.trust import summarize_trust
from persim_gym.studies.personalize import study_jobs
from persim_gym.studies.personalize_report import personalize_figure, personalize_tables
from persim_gym.studies.trust import trust_table


def test_tables_and_figure_of_a_small_study(tmp_path):
    rng = np.random.default_rng(0)
    errors = [
        {k: str(v) for k, v in job.items()} | {"rmse": str(rng.uniform()), "r2": "1", "milliseconds": "2.5"}
        for job in study_jobs("cartpole", "v", 2, "error")
    ]
    returns = [
        {k: str(v) for k, v in job.items()} | {"return": "200"}
        for job in study_jobs("cartpole", "v", 2, "return", steps=200)
    ]
    text = personalize_tables({"cartpole": (errors, returns)})
    assert "| return of MPC after … transitions | agent 0 |" in text
    short = personalize_tables({"cartpole": (errors, [{**row, "steps": "100"} for row in returns])})
    assert "| return of MPC in 100 steps after … transitions | agent 0 |" in short
    assert "| trained with them |" in text and "| 0, learned while it acts | 200.0 |" in text
    assert "A factor from 20 transitions takes 2.5 ms" in text
    personalize_figure({"cartpole": (errors, returns), "halfcheetah": (errors, [])}, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 10_000
    limits = summarize_trust((rng.uniform(size=(40, 5)), np.ones((40, 5))), bound=0.5, level=0.9)
    assert "| a case | 7 | 93.0% |  |  |  |" in trust_table([{"case": "a case", "rollouts": 7, "kept": 0.93}], limits)
