import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch.nn import functional

import edgeline_train.cli
from edgeline.errors import GateError, InputError, MissingCapabilityError
from edgeline_train import loop
from edgeline_train.checkpoint import Checkpoints, read_checkpoint
from edgeline_train.data import DATASETS, Split, load_split, preprocessing_for
from edgeline_train.data.pixels import input_from_pixels
from edgeline_train.models import MODELS
from edgeline_train.observer import Epoch, Step
from edgeline_train.optimisation import initialise
from edgeline_train.recipes import recipe_for
from tests.conftest import one_line

MAIN = edgeline_train.cli.main


@pytest.fixture(scope="module")
def splits():
    """A few hundred digits: enough to see that a step was made, and which."""
    full = load_split(DATASETS["mnist-10k"], "train")
    return Split(full.images[:320], full.labels[:320], "train"), Split(
        full.images[320:520], full.labels[320:520], "test"
    )


class Watch:
    """An observer that keeps what it is told, and does `act` on each step."""

    def __init__(self, act=lambda _step: None):
        self.act, self.steps, self.epochs, self.started, self.closed = act, [], [], [], 0

    def on_start(self, done):
        self.started.append([epoch.global_step for epoch in done])

    def on_step(self, step: Step):
        self.steps.append(step)
        self.act(step)

    def on_epoch(self, epoch: Epoch, epochs, network):
        assert not network.training
        self.epochs.append(epoch)

    def close(self):
        self.closed += 1


def run_of(epochs=3, patience=None, **changes):
    recipe = dataclasses.replace(recipe_for("lenet", "best", "mnist-10k"), **changes)
    model = MODELS["lenet"]
    return loop.Run(
        model, recipe, "mnist-10k", preprocessing_for(DATASETS["mnist-10k"], model.input_shape), 10, epochs, 0, "cpu",
        patience,
    )  # fmt: skip


def train(run, splits, folder, observer=None, resume=False, keep=False):
    return loop.train(run, *splits, observer or Watch(), Checkpoints(folder / "c.checkpoint.pt", keep), resume)


def without_times(history):
    return [{key: value for key, value in row.items() if key not in ("examples_per_s", "time_s")} for row in history]


def same(first, second):
    return all(torch.equal(first.state[name], second.state[name]) for name in first.state)


def test_the_same_seed_gives_the_same_weights(splits, tmp_path):
    results = [train(run_of(), splits, tmp_path) for _ in range(2)]
    assert same(*results)
    assert without_times(results[0].history) == without_times(results[1].history)
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
    (tmp_path / "c.checkpoint.pt").unlink()

    def stop(step):
        if step.epoch == 2 and step.step == step.steps:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(run_of(), splits, tmp_path, Watch(stop))
    assert read_checkpoint(tmp_path / "c.checkpoint.pt", run_of().settings()).epoch == 1
    torch.rand(17)  # whatever the process did in between must not matter
    watch = Watch()
    resumed = train(run_of(), splits, tmp_path, watch, resume=True)
    assert same(whole, resumed)
    assert without_times(whole.history) == without_times(resumed.history)
    assert watch.started == [[5]]  # one epoch of 320 images in batches of 64
    assert [epoch.epoch for epoch in watch.epochs] == [2, 3]


@pytest.mark.parametrize("change", [{"lr": 0.001}, {"batch_size": 32}, {"epochs": 4}])
def test_a_checkpoint_of_other_settings_is_refused(splits, tmp_path, change):
    train(run_of(), splits, tmp_path)
    with pytest.raises(InputError, match=f"is of a run with other settings .{next(iter(change))} "):
        train(run_of(**change), splits, tmp_path, resume=True)


def test_a_damaged_checkpoint_is_refused(splits, tmp_path):
    train(run_of(1), splits, tmp_path)
    path = tmp_path / "c.checkpoint.pt"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"c\.checkpoint\.pt is damaged .*train without --resume"):
        train(run_of(1), splits, tmp_path, resume=True)


def test_the_best_epoch_is_kept(splits, tmp_path):
    result = train(run_of(6), splits, tmp_path)
    accuracies = [row["test_accuracy"] for row in result.history]
    assert result.evaluation.accuracy == max(accuracies)
    assert accuracies[result.best_epoch - 1] == max(accuracies)


@pytest.mark.parametrize(("step", "words"), [(3, "at epoch 2, step 3"), (5, "at epoch 2, step 5")])
def test_a_loss_that_is_not_finite_stops_with_the_step_and_keeps_the_last_good_checkpoint(
    splits, tmp_path, monkeypatch, step, words
):
    real, calls = functional.cross_entropy, []

    def poisoned(*args, **kwargs):
        calls.append(kwargs.get("label_smoothing"))
        trained = sum(smoothing is not None for smoothing in calls)  # evaluations do not smooth
        return real(*args, **kwargs) * (math.nan if trained == 5 + step else 1.0)

    monkeypatch.setattr(functional, "cross_entropy", poisoned)
    # Five steps an epoch; the step is named whenever the loss is looked at.
    with pytest.raises(GateError, match=rf"finite {words}; the checkpoint of epoch 1 is kept; .*--lr"):
        train(run_of(), splits, tmp_path)
    saved = read_checkpoint(tmp_path / "c.checkpoint.pt", run_of().settings())
    assert saved.epoch == 1
    assert all(bool(torch.isfinite(tensor).all()) for tensor in saved.network.values())


def test_an_update_that_no_loss_has_shown_keeps_the_last_good_checkpoint_too(splits, tmp_path, monkeypatch):
    """The last step of the second epoch breaks the weights: only the test split's loss tells."""

    def step(self, inputs, target, size, real=loop.Trainer._step):
        sums = real(self, inputs, target, size)
        if self.scheduler.last_epoch == 10:
            self.network.fc3.bias.data.fill_(math.inf)
        return sums

    monkeypatch.setattr(loop.Trainer, "_step", step)
    with pytest.raises(GateError, match="finite after epoch 2, step 5; the checkpoint of epoch 1 is kept"):
        train(run_of(), splits, tmp_path)
    saved = read_checkpoint(tmp_path / "c.checkpoint.pt", run_of().settings())
    assert saved.epoch == 1
    assert all(bool(torch.isfinite(tensor).all()) for tensor in saved.network.values())


def test_every_step_counts_and_the_last_batch_is_trained_too(splits, tmp_path):
    watch = Watch()
    result = train(run_of(1, batch_size=100), splits, tmp_path, watch)
    assert (watch.steps[-1].step, watch.steps[-1].steps) == (4, 4)  # 100, 100, 100 and 20 of 320
    assert result.history[0]["global_step"] == 4
    assert result.evaluation.confusion.sum() == 200
    assert result.evaluation.confusion.sum(1).tolist() == [int((splits[1].labels == c).sum()) for c in range(10)]


def test_each_hundredth_step_is_told(splits, tmp_path):
    watch = Watch()
    train(run_of(3, batch_size=4), splits, tmp_path, watch)
    told = [step.global_step for step in watch.steps]
    assert {100, 200} <= set(told)
    assert told == sorted(set(told))


def test_gradients_of_a_smaller_last_batch_are_its_own_mean(splits, tmp_path, monkeypatch):
    """One optimiser step of plain SGD on 20 images, against torch's own mean cross-entropy."""
    few = Split(splits[0].images[:20], splits[0].labels[:20], "train")
    run = run_of(1, batch_size=64, optimizer="sgd", lr=0.5, schedule="constant", augment=())
    result = train(run, (few, splits[1]), tmp_path)
    torch.manual_seed(0)
    network = run.model.build(10)
    initialise(network, "xavier")
    optimizer = torch.optim.SGD(network.parameters(), lr=0.5)
    functional.cross_entropy(
        network(input_from_pixels(torch.from_numpy(few.images.copy()), run.preprocessing)), torch.from_numpy(few.labels)
    ).backward()
    optimizer.step()
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(result.state[name], tensor, rtol=1e-4, atol=1e-5)


def test_patience_ends_a_run_that_no_longer_improves(splits, tmp_path):
    result = train(run_of(30, patience=2, lr=1e-9, augment=()), splits, tmp_path)
    assert len(result.history) == result.best_epoch + 2
    assert len(result.history) < 30


def test_kept_checkpoints_are_one_an_epoch(splits, tmp_path):
    train(run_of(3), splits, tmp_path, keep=True)
    assert sorted(path.name for path in (tmp_path / "c.checkpoints").iterdir()) == [
        "epoch-001.pt", "epoch-002.pt", "epoch-003.pt",
    ]  # fmt: skip
    assert read_checkpoint(tmp_path / "c.checkpoints" / "epoch-002.pt", run_of().settings()).epoch == 2
    train(run_of(1), splits, tmp_path, keep=True)  # another run: what the first one kept is not its
    assert [path.name for path in (tmp_path / "c.checkpoints").iterdir()] == ["epoch-001.pt"]


def test_bf16_and_channels_last_train(splits, tmp_path):
    result = train(run_of(1, bf16=True, channels_last=True), splits, tmp_path)
    assert all(tensor.dtype == torch.float32 for tensor in result.state.values())


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
        ([], "name a network: lenet, lenet-maxpool"),
        (["lenett"], "unknown model 'lenett' (did you mean lenet"),
        (["lenet", "--dataset", "mnist-10"], "unknown data set 'mnist-10' (did you mean mnist-10k"),
        (["lenet", "--recipe", "bst"], "unknown recipe of lenet 'bst' (did you mean best?)"),
        (["lenet", "--epochs", "0"], "--epochs must be above 0, got 0"),
        (["lenet", "--lr", "-1"], "--lr must be above 0, got -1.0"),
        (["lenet", "--batch-size", "x"], "invalid int value: 'x'"),
        (["lenet", "--seed", "9" * 30], "expected a whole number from 0 to 2147483647"),
        (["lenet", "--recipe", "adam"], "'adam' is one of alexnet, not of lenet, which has best, d2l"),
        (
            ["lenet", "--recipe", "d2l", "--dataset", "mnist"],
            "recipe 'd2l' of lenet is made for fashion-mnist, not for",
        ),
        (["lenet", "--augment", "flip,blur"], "unknown augmentation 'blur'"),
        (["lenet", "--label-smoothing", "1"], "--label-smoothing must be from 0 to below 1, got 1.0"),
        (["lenet", "--patience", "0"], "--patience must be above 0, got 0"),
        (["lenet", "--sweep", "pooling=1,2"], "--sweep takes OPTION=A,B,... with one of batch-size"),
        (["lenet", "--sweep", "batch-size=32,x"], "--sweep batch-size takes int values, got 'x'"),
        (
            ["lenet", "--sweep", "lr=0.1,1e-1"],
            "--sweep lr takes values that differ, separated by commas, got '0.1,1e-1'",
        ),
        (["lenet", "--sweep", "lr=,"], "--sweep lr takes values that differ, separated by commas, got ','"),
        (["lenet", "--sweep", "lr=1", "--qat"], "--sweep trains float weights"),
        (
            ["lenet", "--sweep", "lr=1", "--plot-activations", "3"],
            "--plot-activations and --sweep are two things to do",
        ),
        (
            ["lenet", "--plot-activations", "3"],
            "there are no weights at weights/lenet-mnist-10k.safetensors; make them: ",
        ),
    ],
)
def test_wrong_calls_are_one_line_and_exit_2(command, tmp_path, monkeypatch, argv, words):
    monkeypatch.chdir(tmp_path)
    code, out, err = command(MAIN, *argv)
    assert (code, out) == (2, "")
    assert words in one_line(err)
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_says_how_to_go_on(command, tmp_path, monkeypatch):
    real = loop.Trainer.epoch

    def interrupted(self, epoch, *rest):
        if epoch == 2:
            raise KeyboardInterrupt
        return real(self, epoch, *rest)

    monkeypatch.setattr(loop.Trainer, "epoch", interrupted)
    code, _, err = command(MAIN, "lenet", "--weights", tmp_path, "--epochs", 3)
    assert code == 130
    assert "go on with the same command and --resume" in err
    assert [path.name for path in tmp_path.iterdir()] == ["lenet-mnist-10k.checkpoint.pt"]
    monkeypatch.undo()
    code, out, err = command(MAIN, "lenet", "--weights", tmp_path, "--epochs", 3, "--resume")
    assert code == 0
    assert "resuming from" in err
    assert "epoch 1/3" not in err
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "lenet-mnist-10k.curve.png", "lenet-mnist-10k.history.json", "lenet-mnist-10k.safetensors",
    ]  # fmt: skip
    code, again, err = command(MAIN, "lenet", "--weights", tmp_path, "--epochs", 3, "--resume")
    assert (code, again) == (0, out)
    assert "is there already, from these settings: nothing to do" in err
    code, _, err = command(MAIN, "lenet", "--weights", tmp_path, "--epochs", 4, "--lr", 0.01, "--resume")
    assert code == 2
    assert "is finished, with other settings (epochs 3 instead of 4, lr 0.02 instead of 0.01)" in one_line(err)


def test_a_disk_that_fills_while_a_checkpoint_is_written(splits, tmp_path, monkeypatch):
    """A stream that takes 20,000 bytes, as a full disk would: torch's own writer then raises something else."""
    real = Path.open

    def small(self, mode="r", *args, **kwargs):
        stream = real(self, mode, *args, **kwargs)
        if mode == "wb" and self.name.endswith(".tmp"):
            write, taken = stream.write, []

            def limited(content):
                taken.append(len(content))
                if sum(taken) > 20_000:
                    raise OSError(28, os.strerror(28))
                return write(content)

            class Small:
                """A real stream but for its write."""

                def __enter__(self):
                    return self

                def __exit__(self, *_):
                    stream.close()

                def __getattr__(self, name):
                    return limited if name == "write" else getattr(stream, name)

            return Small()
        return stream

    monkeypatch.setattr(Path, "open", small)
    with pytest.raises(OSError, match="No space left on device"):
        train(run_of(1), splits, tmp_path)
    assert list(tmp_path.iterdir()) == []


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
    result = train(run, splits, tmp_path)
    assert recipe.bf16
    assert recipe.channels_last
    assert result.evaluation.accuracy > 0.3  # chance is 0.1; forty steps have taught it something
