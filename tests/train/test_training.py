import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import edgeline_train.cli
from edgeline.errors import GateError, InputError, MissingCapabilityError
from edgeline.manifest import Preprocessing
from edgeline_train import loop
from edgeline_train.augment import random_affine
from edgeline_train.checkpoint import read_checkpoint
from edgeline_train.data import DATASETS, Split, load_split, preprocessing_for
from edgeline_train.models import MODELS
from edgeline_train.recipes import RECIPES, recipe_for
from tests.conftest import one_line

MAIN = edgeline_train.cli.main


@pytest.fixture(scope="module")
def splits():
    """A few hundred digits: enough to see that a step was made, and which."""
    full = load_split(DATASETS["mnist-10k"], "train")
    return Split(full.images[:320], full.labels[:320], "train"), Split(
        full.images[320:520], full.labels[320:520], "test"
    )


def run_of(epochs=3, **changes):
    recipe = dataclasses.replace(recipe_for("lenet", "best", "mnist-10k"), **changes)
    model = MODELS["lenet"]
    return loop.Run(
        model, recipe, "mnist-10k", preprocessing_for(DATASETS["mnist-10k"], model.input_shape), 10, epochs, 0, "cpu"
    )


def train(run, splits, folder, report=lambda _progress: None, resume=False):
    return loop.train(run, *splits, report, folder / "c.pt", resume)


def same(first, second):
    return all(torch.equal(first.state[name], second.state[name]) for name in first.state)


def test_the_same_seed_gives_the_same_weights(splits, tmp_path):
    results = [train(run_of(), splits, tmp_path) for _ in range(2)]
    assert same(*results)
    assert results[0].history == results[1].history
    other = train(dataclasses.replace(run_of(), seed=1), splits, tmp_path)
    assert not same(results[0], other)


@pytest.mark.parametrize("model_has_dropout", [False, True])
def test_resuming_gives_what_an_uninterrupted_run_gives(splits, tmp_path, model_has_dropout, monkeypatch):
    if model_has_dropout:  # dropout draws from torch's global state, which a checkpoint does not hold
        build = type(MODELS["lenet"]).build
        monkeypatch.setattr(
            type(MODELS["lenet"]),
            "build",
            lambda self, classes: torch.nn.Sequential(build(self, classes), torch.nn.Dropout(0.3)),
        )
    whole = train(run_of(), splits, tmp_path)
    (tmp_path / "c.pt").unlink()

    def stop(progress):
        if progress.epoch == 1 and progress.accuracy is None and progress.step == progress.steps:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(run_of(), splits, tmp_path, stop)
    assert read_checkpoint(tmp_path / "c.pt", run_of().settings()).epoch == 1
    torch.rand(17)  # whatever the process did in between must not matter
    resumed = train(run_of(), splits, tmp_path, resume=True)
    assert same(whole, resumed)
    assert whole.history == resumed.history


@pytest.mark.parametrize("change", [{"lr": 0.001}, {"batch_size": 32}, {"epochs": 4}])
def test_a_checkpoint_of_other_settings_is_refused(splits, tmp_path, change):
    train(run_of(), splits, tmp_path)
    with pytest.raises(InputError, match=f"is of a run with other settings .{next(iter(change))} "):
        train(run_of(**change), splits, tmp_path, resume=True)


def test_a_damaged_checkpoint_is_refused(splits, tmp_path):
    train(run_of(1), splits, tmp_path)
    path = tmp_path / "c.pt"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"c\.pt is damaged .*train without --resume"):
        train(run_of(1), splits, tmp_path, resume=True)


def test_the_best_epoch_is_kept(splits, tmp_path):
    result = train(run_of(6), splits, tmp_path)
    accuracies = [row["test_accuracy"] for row in result.history]
    assert result.accuracy == max(accuracies)
    assert accuracies[result.best_epoch - 1] == max(accuracies)


def test_a_loss_that_is_not_finite_stops_with_the_step(splits, tmp_path):
    # The loss is looked at every 0.2 s and at the last step: which of the five is named depends on the machine.
    with pytest.raises(GateError, match=r"the loss is no longer finite at epoch 1, step [1-5];"):
        train(
            dataclasses.replace(run_of(), preprocessing=Preprocessing(None, 1 / 255, (0.1,), (0.0,))), splits, tmp_path
        )


def test_bf16_and_channels_last_train(splits, tmp_path):
    result = train(run_of(1, bf16=True, channels_last=True), splits, tmp_path)
    assert all(tensor.dtype == torch.float32 for tensor in result.state.values())


def test_augmentation_moves_but_keeps_the_digit():
    images = torch.zeros(200, 28, 28)
    images[:, 10:18, 10:18] = 255.0
    moved = random_affine(images, 1.0, torch.Generator().manual_seed(0))
    assert moved.shape == images.shape
    assert len({image.numpy().tobytes() for image in moved}) == 200
    ink = moved.sum(dim=(1, 2)) / images[0].sum()
    assert 0.7 < float(ink.min()) < float(ink.max()) < 1.4
    still = random_affine(images, 0.0, torch.Generator().manual_seed(0))
    torch.testing.assert_close(still, images, atol=1e-2, rtol=0)


def test_every_model_has_a_default_recipe_for_every_data_set():
    for model in MODELS:
        assert set(recipe_for(model, "best", "mnist-10k").epochs) == set(DATASETS)
    assert RECIPES.keys() == MODELS.keys()


def test_devices():
    assert loop.choose_device("auto") in ("cuda", "mps", "cpu")
    if not torch.cuda.is_available():
        with pytest.raises(
            MissingCapabilityError, match="--device cuda is not available to torch here; available: cpu"
        ):
            loop.choose_device("cuda")


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], "name a network: lenet, alexnet"),
        (["lenett"], "unknown model 'lenett' (did you mean lenet"),
        (["lenet", "--dataset", "mnist-10"], "unknown data set 'mnist-10' (did you mean mnist-10k"),
        (["lenet", "--recipe", "bst"], "unknown recipe of lenet 'bst' (did you mean best?)"),
        (["lenet", "--epochs", "0"], "--epochs must be above 0, got 0"),
        (["lenet", "--lr", "-1"], "--lr must be above 0, got -1.0"),
        (["lenet", "--batch-size", "x"], "invalid int value: 'x'"),
        (["lenet", "--seed", "9" * 30], "expected a whole number from 0 to 2147483647"),
    ],
)
def test_wrong_calls_are_one_line_and_exit_2(command, tmp_path, monkeypatch, argv, words):
    monkeypatch.chdir(tmp_path)
    code, out, err = command(MAIN, *argv)
    assert (code, out) == (2, "")
    assert words in one_line(err)
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_says_how_to_go_on(command, tmp_path, monkeypatch):
    real = loop._train_epoch

    def interrupted(run, epoch, *rest):
        if epoch == 1:
            raise KeyboardInterrupt
        return real(run, epoch, *rest)

    monkeypatch.setattr(loop, "_train_epoch", interrupted)
    code, _, err = command(MAIN, "lenet", "--weights", tmp_path, "--epochs", 3)
    assert code == 130
    assert "go on with the same command and --resume" in err
    assert [path.name for path in tmp_path.iterdir()] == ["lenet-mnist-10k.checkpoint.pt"]
    monkeypatch.undo()
    code, out, err = command(MAIN, "lenet", "--weights", tmp_path, "--epochs", 3, "--resume")
    assert code == 0
    assert "resuming from" in err
    assert "epoch 1/3" not in err
    assert [path.name for path in tmp_path.iterdir()] == ["lenet-mnist-10k.safetensors"]
    code, again, err = command(MAIN, "lenet", "--weights", tmp_path, "--epochs", 3, "--resume")
    assert (code, again) == (0, out)
    assert "is there already, from these settings: nothing to do" in err
    code, _, err = command(MAIN, "lenet", "--weights", tmp_path, "--epochs", 4, "--lr", 0.01, "--resume")
    assert code == 2
    assert "is finished, with other settings (epochs 3 instead of 4, lr 0.02 instead of 0.01)" in one_line(err)


def test_a_full_disk_leaves_nothing_half_written(command, tmp_path, monkeypatch):
    def full(_descriptor):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("edgeline.files.os.fsync", full)
    code, _, err = command(MAIN, "lenet", "--weights", tmp_path, "--epochs", 1)
    assert code == 4
    assert "the disk is full" in one_line(err)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_kill_9_and_resume_give_the_same_bytes(tmp_path):
    argv = [sys.executable, "-m", "edgeline_train", "lenet", "--epochs", "6", "--device", "cpu", "--weights"]
    subprocess.run([*argv, tmp_path / "whole"], check=True, capture_output=True, timeout=300)
    killed = subprocess.Popen([*argv, tmp_path / "killed"], stderr=subprocess.PIPE, text=True)
    assert killed.stderr is not None
    for line in killed.stderr:
        if line.startswith("epoch 3/6"):
            break
    time.sleep(0.2)  # into the fourth epoch
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    name = "lenet-mnist-10k.safetensors"
    assert not (tmp_path / "killed" / name).exists()
    resumed = subprocess.run([*argv, tmp_path / "killed", "--resume"], capture_output=True, text=True, timeout=300)
    assert resumed.returncode == 0, resumed.stderr
    assert "epoch 1/6" not in resumed.stderr
    assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.slow
def test_lenet_reaches_98_percent_on_the_embedded_digits(command, tmp_path):
    code, out, _ = command(MAIN, "lenet", "--weights", tmp_path, "--json")
    assert code == 0
    assert json.loads(out)["accuracy"] >= 0.98
    assert Path(json.loads(out)["weights"]).exists()


@pytest.mark.slow
def test_alexnet_takes_steps_on_the_embedded_digits(splits, tmp_path):
    recipe = recipe_for("alexnet", "best", "mnist-10k")
    model, dataset = MODELS["alexnet"], DATASETS["mnist-10k"]
    run = loop.Run(model, recipe, dataset.name, preprocessing_for(dataset, model.input_shape), 10, 8, 0, "cpu")
    result = loop.train(run, *splits, lambda _progress: None, tmp_path / "c.pt", False)
    assert recipe.bf16
    assert recipe.channels_last
    assert result.accuracy > 0.3  # chance is 0.1; forty steps have taught it something
