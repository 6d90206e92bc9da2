"""The rank by cross-validation."""

import csv
from dataclasses import replace

import matplotlib.image
import numpy as np
import pytest
import torch
from support.jobs import run_here
from support.missing import lacking
from support.recipes import RECIPE

from persim_gym.paths import unfinished
from persim_gym.simulator import load_simulator
from persim_gym.simulator.training import trainer
from persim_gym.workflows import select_rank as training
from persim_gym.workflows.select_rank import (
    HeldOut,
    best_rank,
    held_out_error,
    one_step_error,
    rank_errors,
    rank_reason,
)
from persim_gym.workflows.train import train
from persim_gym.workflows.training_setup import prepare_training


def error_of(rank, source, recipe=RECIPE):
    place = unfinished("ranks")
    setup = prepare_training(source, recipe=recipe)
    return held_out_error(rank, 0, setup, place.name, place.parent)["held_out_error"]


def test_rank_three_predicts_held_out_points_of_mountain_car_better_than_rank_one(source, home):
    errors = {rank: error_of(rank, source) for rank in (1, 3)}
    assert errors[3] < 0.7 * errors[1] < 0.7


def test_ranks_are_told_apart_after_a_few_rounds_in_closed_form_on_the_same_points(source, cars, home, monkeypatch):
    seen = []
    finished = trainer.solve_closed_form

    def watched(model, data, recipe, *args, **kwargs):
        seen.append((len(data), recipe.refine))
        return finished(model, data, recipe, *args, **kwargs)

    monkeypatch.setattr(trainer, "solve_closed_form", watched)
    short = replace(RECIPE, epochs=10)
    assert error_of(3, source, replace(short, refine=9)) < 0.9 * error_of(3, source, short)
    assert seen == [(pytest.approx(0.8 * len(cars), rel=0.05), rounds) for rounds in (4, 0)]


def test_a_fifth_of_the_points_is_held_out_and_never_trained_on(source, cars, home, monkeypatch):
    seen = {}
    fit = trainer.fit_ensemble
    monkeypatch.setattr(trainer, "fit_ensemble", lambda data, *a, **k: seen.update(trained=data) or fit(data, *a, **k))
    monkeypatch.setattr(
        training, "one_step_error", lambda model, data: seen.update(held_out=data) or one_step_error(model, data)
    )
    error_of(1, source, replace(RECIPE, epochs=1))
    rows = [{row.tobytes() for row in np.column_stack([d.agent, d.obs])} for d in (seen["trained"], seen["held_out"])]
    assert 0.15 * len(cars) < len(seen["held_out"]) < 0.25 * len(cars)
    assert len(seen["trained"]) + len(seen["held_out"]) == len(cars) and not rows[0] & rows[1]


def test_the_held_out_error_is_one_for_a_model_that_predicts_the_mean_change(cars, car_model):
    class MeanChange:
        config, obs_mean = car_model.config, car_model.obs_mean

        def predict(self, agent, obs, action):
            return (obs + torch.from_numpy((cars.next_obs - cars.obs).mean(axis=0)))[None]

    assert one_step_error(MeanChange(), cars).rmse == pytest.approx(1.0, rel=1e-4)


def test_the_smallest_rank_within_one_standard_error_of_the_best_is_chosen():
    errors = {10: (0.2, 0.0), 5: (0.105, 0.1), 3: (0.12, 0.1), 20: (0.1, 0.01), 15: (np.nan, 0.0)}
    assert best_rank({rank: HeldOut(*error) for rank, error in errors.items()}) == (5, pytest.approx(0.11))
    exact = {3: HeldOut(2e-3, 1e-5), 5: HeldOut(3e-4, 1e-5), 10: HeldOut(5e-5, 1e-6)}
    assert best_rank(exact) == (5, 1e-3)  # a thousandth is enough
    with pytest.raises(ValueError, match="no rank has a finite error.*learning_rate"):
        best_rank({3: HeldOut(np.nan, 0.0)})


def test_the_standard_error_is_that_of_trajectories(cars, car_model):
    """Against a bootstrap over trajectories, whose points are kept together."""
    data = replace(cars, trajectory=np.arange(600) // 20)
    error = one_step_error(car_model, data)
    columns = [torch.from_numpy(values) for values in (data.agent, data.obs, data.action)]
    with torch.no_grad():
        residual = car_model.predict(*columns).double().mean(dim=0).numpy() - data.next_obs
    unit = (data.next_obs - data.obs).std(axis=0)
    squares = np.square(residual / unit).mean(axis=1).reshape(30, 20)
    assert error.rmse == pytest.approx(np.sqrt(squares.mean()), rel=1e-5)
    rng = np.random.default_rng(0)
    drawn = [np.sqrt(squares[rng.integers(30, size=30)].mean()) for _ in range(2000)]
    assert error.standard_error == pytest.approx(np.std(drawn), rel=0.15)


@pytest.fixture
def in_process(monkeypatch):
    """Runs jobs here, and counts them."""
    done = []

    def run_jobs(function, jobs, log, **options):
        done.extend(job["rank"] for job in jobs if log.get(job) is None)
        return run_here(function, jobs, log, **options)

    monkeypatch.setattr(training, "run_jobs", run_jobs)
    return done


def test_the_chosen_rank_is_trained_and_plotted_and_no_rank_is_measured_twice(source, in_process, home, monkeypatch):
    monkeypatch.setattr(rank_errors, "__defaults__", ((1, 3), False))
    folder = train(source, recipe=RECIPE, rank="auto", epochs=60, progress=False).folder
    assert load_simulator(str(folder)).model.config.rank == 3
    rows = list(csv.DictReader((folder / "ranks.csv").read_text().splitlines()))
    assert {row["rank"] for row in rows} == {"1", "3"} and matplotlib.image.imread(folder / "ranks.png").shape[1] > 400
    train(source, recipe=RECIPE, rank="auto", epochs=60, progress=False)
    assert in_process == [3, 1]


@pytest.mark.slow
def test_ranks_are_measured_side_by_side_in_processes(home):
    setup = prepare_training("cartpole/random-v0", recipe=replace(RECIPE, epochs=2))
    errors, log = rank_errors(setup, ranks=(1, 3), progress=False)
    assert sorted(errors) == [1, 3] and all(np.isfinite(e.rmse) for e in errors.values())
    assert len(log.read_text().splitlines()) == 3


def test_the_reason_of_a_choice_names_rank_and_errors():
    errors = {3: HeldOut(0.5, 0.1), 5: HeldOut(0.42, 0.1), 10: HeldOut(0.4, 0.1), 15: HeldOut(float("nan"), 0.0)}
    rank, enough = best_rank(errors)
    said = rank_reason(errors, rank, enough)
    assert said.startswith("rank 3, the smallest that is as good as the best, 10, to a standard error")
    assert said.endswith("3: 0.5, 5: 0.42, 10: 0.4, 15: nan")
    exact = {3: HeldOut(5e-4, 1e-5), 5: HeldOut(1e-4, 1e-5)}
    assert "the smallest that is exact to a thousandth" in rank_reason(exact, *best_rank(exact))


def test_held_out_errors_are_of_what_is_known(cars, car_model):
    whole, lacks = one_step_error(car_model, cars), one_step_error(car_model, lacking(cars))
    assert lacks.rmse == pytest.approx(whole.rmse, rel=0.1) and lacks.standard_error > 0
    assert one_step_error(car_model, replace(cars, missing=True)) == whole
