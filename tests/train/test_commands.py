"""train-model's other ways to end: a sweep, a picture of activations, TensorBoard's files. Runs in a few seconds."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import edgeline_train.cli
from edgeline_train import command_sweep, team
from edgeline_train.checkpoint import Checkpoints
from edgeline_train.data import DATASETS, Split, load_split
from edgeline_train.history import read_history
from tests.conftest import one_line

MAIN = edgeline_train.cli.main


@pytest.fixture
def few_digits(monkeypatch):
    """The embedded data set with a twentieth of its digits."""
    real = {part: load_split(DATASETS["mnist-10k"], part) for part in ("train", "test")}

    def load(dataset, part, root=None, named=False):
        return Split(real[part].images[::20], real[part].labels[::20], part)

    monkeypatch.setattr("edgeline_train.command_train.load_split", load)
    monkeypatch.setattr("edgeline_train.command_activations.load_split", load)
    return load


@pytest.fixture
def children_here(monkeypatch):
    """A sweep's processes, run in this one: what they are called with, in order."""
    calls = []

    def run(command, stdout, check):
        assert command[1:3] == ["-m", "edgeline_train"]
        calls.append(command[3:])
        return subprocess.CompletedProcess(command, MAIN([*command[3:], "--device", "cpu"]))

    monkeypatch.setattr(command_sweep.subprocess, "run", run)
    return calls


@pytest.mark.slow
def test_a_sweep_trains_each_value_and_compares_them(few_digits, children_here, command, tmp_path):
    code, out, err = command(
        MAIN, "lenet-relu", "--sweep", "batch-size=32,128", "--epochs", 2, "--seed", 3, "--weights", tmp_path, "--json"
    )
    assert code == 0, err
    assert [call[call.index("--batch-size") + 1] for call in children_here] == ["32", "128"]
    assert all(
        call[call.index("--epochs") + 1] == "2" and call[call.index("--seed") + 1] == "3" for call in children_here
    )
    record = json.loads(out[out.index('{\n  "option"') :])
    assert (record["option"], record["model"], record["dataset"], record["failed"]) == (
        "batch-size", "lenet-relu", "mnist-10k", [],
    )  # fmt: skip
    folder = tmp_path / "sweeps" / "lenet-relu-mnist-10k-batch-size"
    assert json.loads((folder / "sweep.json").read_text()) == record
    for point, value in zip(record["points"], (32, 128), strict=True):
        history = read_history(folder / str(value) / "lenet-relu-mnist-10k.history.json")
        assert point["value"] == history.run["settings"]["batch_size"] == value
        assert point["accuracy"] == history.run["accuracy"]
        assert point["time_s"] == pytest.approx(sum(epoch["time_s"] for epoch in history.epochs))
        assert point["peak_memory_bytes"] > 100e6  # torch alone takes more
    with Image.open(folder / "batch-size.png") as picture:
        assert picture.width > 1000


@pytest.mark.slow
def test_a_value_that_diverges_does_not_end_a_sweep(few_digits, children_here, command, tmp_path):
    code, out, err = command(MAIN, "lenet-relu", "--sweep", "lr=1e30,0.01", "--epochs", 1, "--weights", tmp_path)
    assert code == 0
    assert "lr 1e+30 was not trained to its end: its loss was no longer finite" in err
    rows = [line for line in out.splitlines() if line.startswith("│")]
    assert len(rows) == 1
    assert rows[0].split("│")[1].strip() == "0.01"
    code, _, err = command(MAIN, "lenet-relu", "--sweep", "lr=1e30", "--epochs", 1, "--weights", tmp_path)
    assert code == 1
    assert "none of lr 1e30 could be trained to its end" in err


def test_a_sweep_ends_with_what_its_training_says(children_here, command, tmp_path):
    code, _, err = command(MAIN, "lenet", "--sweep", "batch-size=0", "--weights", tmp_path)
    assert code == 2
    assert "the training with batch-size 0 ended with exit code 2: see the line above" in err


def test_activations_tensorboard_and_kept_checkpoints_through_the_command(few_digits, command, tmp_path):
    options = ("--weights", tmp_path, "--device", "cpu")
    code, _, err = command(
        MAIN,
        "lenet-relu",
        "--epochs",
        2,
        *options,
        "--tensorboard",
        tmp_path / "runs",
        "--keep",
        "--label-smoothing",
        0.1,
    )
    assert code == 0, err
    assert "tensorboard --logdir" in err
    assert list((tmp_path / "runs" / "lenet-relu-mnist-10k").glob("events*"))
    assert len(list((tmp_path / "lenet-relu-mnist-10k.checkpoints").iterdir())) == 2
    assert "precision" in err  # the confusion table
    history = read_history(tmp_path / "lenet-relu-mnist-10k.history.json")
    assert history.run["settings"]["label_smoothing"] == 0.1
    assert np.sum(history.confusion) == 100
    assert history.machine["processes"] == 1
    code, out, err = command(MAIN, "lenet-relu", *options, "--plot-activations", "7,1", "--json")
    assert code == 0, err
    record = json.loads(out)
    assert [int(few_digits(None, "test").labels[i]) for i in record["examples"]] == [7, 1]
    with Image.open(record["picture"]) as picture:
        assert picture.height > picture.width / 4
    code, _, err = command(MAIN, "lenet-relu", *options, "--plot-activations", "coat")
    assert code == 2
    assert "unknown class 'coat'" in one_line(err)


def test_a_restart_by_torchrun_takes_nothing_that_the_run_did_not_make(few_digits, command, tmp_path, monkeypatch):
    """Finished weights of before, and a worker that dies before its first checkpoint: the restart trains."""
    assert command(MAIN, "lenet-relu", "--epochs", 1, "--weights", tmp_path)[0] == 0
    before = (tmp_path / "lenet-relu-mnist-10k.safetensors").read_bytes()
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    code, _, err = command(MAIN, "lenet-relu", "--epochs", 2, "--weights", tmp_path)
    assert code == 0, err
    assert "epoch 2/2" in err
    assert (tmp_path / "lenet-relu-mnist-10k.safetensors").read_bytes() != before


def test_a_team_puts_an_earlier_runs_checkpoint_aside(tmp_path, capsys):
    from edgeline_train.command_train import _announce

    weights = tmp_path / "w.safetensors"
    checkpoints = Checkpoints.beside(weights)
    checkpoints.last.write_bytes(b"an earlier run's")
    _announce(weights, checkpoints, resume=False, team=team.Team(0, 2))
    assert [path.name for path in tmp_path.iterdir()] == ["w.checkpoint.before.pt"]
    assert "the checkpoint of an earlier run is now" in capsys.readouterr().err


@pytest.mark.parametrize("option", [("--sweep", "lr=1,2"), ("--plot-activations", "3")])
def test_what_runs_in_one_process_is_refused_under_torchrun(command, monkeypatch, option):
    monkeypatch.setenv("WORLD_SIZE", "2")
    code, _, err = command(MAIN, "lenet", *option)
    assert code == 2
    assert f"{option[0]} runs in one process: leave torchrun out" in one_line(err)


@pytest.mark.slow
def test_a_compiled_step_trains_like_one_that_is_not(few_digits, command, tmp_path):
    losses = []
    for option in ("--compile", "--no-compile"):
        folder = Path(tmp_path, option)
        code, _, err = command(MAIN, "lenet", "--epochs", 2, option, "--weights", folder, "--device", "cpu")
        assert code == 0, err
        history = read_history(folder / "lenet-mnist-10k.history.json")
        assert history.run["settings"]["compile"] is (option == "--compile")
        losses.append([epoch["train_loss"] for epoch in history.epochs])
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
