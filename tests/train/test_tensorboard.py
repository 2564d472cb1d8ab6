import io
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from edgeline.errors import MissingCapabilityError
from edgeline_train.models import MODELS
from edgeline_train.observer import Epoch, Step
from edgeline_train.tensorboard import TensorBoardObserver

IMAGES = np.random.default_rng(0).integers(0, 256, (2, 28, 28), np.uint8)


def to_input(images):
    return images.unsqueeze(1).float() / 255


def observer(folder, done_steps=0):
    board = TensorBoardObserver(folder, IMAGES, ("coat", "pullover"), to_input, "cpu")
    board.on_start([Epoch(2, 0.5, 0.5, 0.5, 0.5, 1.0, 1.0, done_steps)] if done_steps else [])
    return board


def run(board, epochs, steps=150, every=50, loss=0.0):
    """Feed epochs, each of so many steps; the loss is the step's number / 1000 + `loss`."""
    network = MODELS["lenet"].build().eval()
    for epoch in epochs:
        for number in range(every, steps + 1, every):
            at = (epoch - 1) * steps + number
            board.on_step(Step(epoch, 4, number, steps, at, at / 1000 + loss, 0.5, 10.0 * at, 0.1))
        at = epoch * steps
        board.on_epoch(Epoch(epoch, 0.5, 0.25 * epoch, 0.7 + loss, 0.125 * epoch, 99.0, 1.0, at), 4, network)
    return network


def read(folder):
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0})
    events.Reload()
    return events


def points(events, tag):
    return [(event.step, pytest.approx(event.value)) for event in events.Scalars(tag)]


def test_scalars_each_hundred_steps_and_each_epoch(tmp_path):
    board = observer(tmp_path)
    run(board, [1, 2])
    board.close()
    events = read(tmp_path)
    assert set(events.Tags()["scalars"]) == {
        "loss/train", "learning_rate", "examples_per_s", "loss/test", "accuracy/test", "accuracy/train",
    }  # fmt: skip
    assert points(events, "loss/train") == [(100, 0.1), (200, 0.2), (300, 0.3)]
    assert points(events, "learning_rate") == [(100, 0.1), (200, 0.1), (300, 0.1)]
    assert points(events, "examples_per_s") == [(100, 1000.0), (200, 2000.0), (300, 3000.0)]
    assert points(events, "loss/test") == [(150, 0.7), (300, 0.7)]
    assert points(events, "accuracy/test") == [(150, 0.125), (300, 0.25)]
    assert points(events, "accuracy/train") == [(150, 0.25), (300, 0.5)]


def test_activations_of_both_layers_each_epoch(tmp_path):
    board = observer(tmp_path)
    network = run(board, [1, 2])
    board.close()
    events = read(tmp_path)
    names = ("0-coat", "1-pullover")
    assert set(events.Tags()["images"]) == {
        *(f"samples/{name}" for name in names),
        *(f"activations/{layer}/{name}" for layer in ("1-conv1", "2-conv2") for name in names),
    }
    assert [event.step for event in events.Images("activations/2-conv2/1-pullover")] == [150, 300]
    assert not network.training
    decoded = Image.open(io.BytesIO(events.Images("samples/0-coat")[0].encoded_image_string))
    side = decoded.width // 28
    np.testing.assert_array_equal(np.asarray(decoded.convert("L"))[side // 2 :: side, side // 2 :: side], IMAGES[0])


def test_a_resumed_run_does_not_double_points(tmp_path):
    killed = observer(tmp_path)
    run(killed, [1, 2, 3])  # the checkpoint of epoch 2 was the last
    killed.close()
    resumed = observer(tmp_path, done_steps=300)
    run(resumed, [3, 4], loss=5.0)
    resumed.close()
    events = read(tmp_path)
    assert points(events, "loss/train") == [(100, 0.1), (200, 0.2), (300, 0.3), (400, 5.4), (500, 5.5), (600, 5.6)]
    assert points(events, "loss/test") == [(150, 0.7), (300, 0.7), (450, 5.7), (600, 5.7)]
    assert [event.step for event in events.Images("activations/1-conv1/0-coat")] == [150, 300, 450, 600]
    assert len(events.Images("samples/0-coat")) == 1


def test_a_new_run_in_the_same_folder_hides_the_old_one(tmp_path):
    for loss in (0.0, 1.0):
        board = observer(tmp_path)
        run(board, [1], loss=loss)
        board.close()
    assert points(read(tmp_path), "loss/train") == [(100, 1.1)]


def test_a_network_without_convolutions_and_no_samples_are_fine(tmp_path):
    board = TensorBoardObserver(tmp_path, IMAGES[:0], (), to_input, "cpu")
    dense = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10))
    board.on_epoch(Epoch(1, 0.5, 0.25, 0.7, 0.5, 99.0, 1.0, 10), 1, dense)
    board.close()
    board.close()
    assert read(tmp_path).Tags()["images"] == []


def test_without_tensorboard_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingCapabilityError, match=r"pip install 'edgeline\[train\]'"):
        observer(tmp_path / "runs")
    assert not (tmp_path / "runs").exists()
