"""Rows of the study of accuracy."""


def row(
    variation="default",
    rmse=("0.0049", "0.0309", "0.0014", "0.0131", "0.2"),
    policy="pure",
    seed="0",
    r2="0.9",
    domain="mountaincar",
):
    head = {"domain": domain, "policy": policy, "variation": variation, "seed": seed, "seconds": "12.3"}
    return (
        head | {f"rmse_{agent}": value for agent, value in enumerate(rmse)} | {f"r2_{agent}": r2 for agent in range(5)}
    )
