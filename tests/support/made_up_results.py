"""Rows of results whose values are made up."""

from persim_gym.reproduce.results import Result


def made_up(value: float, **fields) -> Result:
    """A row of `persim reproduce` that no cell was run for; fields that are not given are PerSim's RMSE of agent 0."""
    known = {
        "domain": "mountaincar",
        "dataset": "random",
        "n_agents": 500,
        "agent": "0",
        "method": "persim",
        "seed": 0,
        "metric": "rmse",
        "episodes": 20,
        "settings": "made up",
        "seconds": 0.0,
        "versions": "none",
        "hardware": "none",
    }
    return Result(value=value, **{**known, **fields})
