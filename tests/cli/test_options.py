"""Options that all verbs share: the same names and order everywhere, and none without an effect."""

import inspect

import pytest
import typer
from typer.testing import CliRunner

from persim_gym.cli import app
from persim_gym.cli.options import chosen_agents, resumable

SHARED = {"agents", "agent", "seed", "workers", "force", "settings", "truth"}


def commands(group, path=()):
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield " ".join((*path, name)), command


VERBS = dict(commands(typer.main.get_command(app)))


@pytest.mark.parametrize("verb", VERBS)
def test_options_have_one_spelling(verb):
    options = {parameter.name: parameter for parameter in VERBS[verb].params}
    assert not {"true", "overwrite", "n_agents", "jobs"} & set(options)
    for name, flag in {"settings": "--set", "agents": "--agents", "agent": "--agent", "truth": "--truth"}.items():
        assert name not in options or options[name].opts == [flag]
    if "agents" in options:
        assert "agent" in options, "--agent N is short for --agents N"
    if "simulator" in options:
        assert options["simulator"].param_type_name == "argument"


@pytest.mark.parametrize("verb", VERBS)
def test_an_option_means_the_same_in_all_verbs(verb):
    for parameter in VERBS[verb].params:
        if parameter.name in ("seed", "workers", "force") and verb != "simulators rm":
            same = next(p for p in VERBS["plan"].params if p.name == parameter.name)
            assert (parameter.help, parameter.opts) == (same.help, same.opts)


def test_agents_are_a_list_or_one():
    assert chosen_agents(None, None) == [0, 1, 2, 3, 4]
    assert chosen_agents(None, "17") == chosen_agents("17,17", None) == [17]
    with pytest.raises(ValueError, match="give --agents or --agent, not both"):
        chosen_agents("0-2", "5")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("train-policy --agents 0-2 --agent 5", "give --agents or --agent, not both"),
        ("plan cartpole --truth --quantize", "--quantize is about simulators; leave it out with --truth"),
        ("train-policy --truth --penalty 1", "--penalty is about the simulator as an environment"),
        ("train-policy --address auto", "address 'auto' is that of a Ray cluster; add --backend ray"),
        ("train-policy --workers 2", "--workers is for several agents"),
        ("train-policy --backend ray --tensorboard", "TensorBoard's logs are written on this machine only"),
        ("train cartpole/random-v0 --rank 3 --backend ray", "--backend is for --rank auto"),
        ("baseline bcq-p --address auto", "--address is for bcq-a"),
        ("baseline cadm --backend ray", "--backend is for bcq-a"),
        ("plan --address auto", "address 'auto' is that of a Ray cluster; add --backend ray"),
        ("study personalize --backend slurm", "backend 'slurm' is not one of local, ray"),
        ("train cartpole/random-v0 --epochs 2 --set refine=1", "give --epochs, or --set epochs, samples and refine"),
        ("train cartpole/random-v0 --rank 2 --set rank=3", "give --rank or --set rank, not both"),
        ("train-policy --set gamma", "'gamma' sets nothing; write name=value"),
        ("train-policy --set gama=0.9", "ppo has no setting 'gama'; did you mean gamma?"),
        ('train-policy --set gamma="high"', "ppo's gamma cannot be 'high'; its default is 0.99"),
    ],
)
def test_options_that_contradict_each_other_are_refused(words, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    error = CliRunner().invoke(app, words.split()).exception
    assert isinstance(error, ValueError) and said in str(error)


def test_a_verb_that_goes_on_says_so_after_an_interruption(capsys):
    @resumable
    def verb(a: int, b: str = "x") -> int:
        raise KeyboardInterrupt

    assert list(inspect.signature(verb).parameters) == ["a", "b"]
    with pytest.raises(SystemExit) as end:
        verb(1)
    assert end.value.code == 130 and "the same command goes on" in capsys.readouterr().err


PLACED = [
    *(["train-policy"], ["train"], ["plan"], ["baseline"]),
    *(
        ["study", name]
        for name in ("accuracy", "training", "personalize", "offline-rl", "test-policies", "sensitivity")
    ),
    ["study", "quantization"],
]


@pytest.mark.parametrize("verb", PLACED, ids=" ".join)
def test_verbs_that_run_many_jobs_say_where_they_can_run_and_by_default_do(verb):
    shown = CliRunner().invoke(app, [*verb, "--help"], env={"COLUMNS": "200"}).stdout
    (backend,) = [line for line in shown.splitlines() if "--backend" in line]
    (address,) = [line for line in shown.splitlines() if "--address" in line]
    assert "local (processes of this machine), or ray" in backend and "[default: local]" in shown
    assert "auto or host:port. (default: start Ray on this machine)" in address
