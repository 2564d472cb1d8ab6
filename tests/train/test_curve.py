import json
import re

import pytest
from PIL import Image

from edgeline.errors import InputError
from edgeline_train.curve import kept_epoch, plot_curve
from edgeline_train.history import history_path, read_history, write_history
from edgeline_train.models.weights import WeightsInfo

INFO = WeightsInfo(
    "lenet", "mnist-10k", "best", 0, 0.13, 0.31, tuple("0123456789"), 3, 2, 0.9, 0.3, "test accuracy", {"lr": 0.02}
)


def record(number, accuracy=0.5, loss=1.0):
    return {
        "epoch": number, "train_loss": 1.5, "train_accuracy": 0.4, "test_loss": loss, "test_accuracy": accuracy,
        "examples_per_s": 100.0, "time_s": 1.0,
    }  # fmt: skip


EPOCHS = [record(1, 0.5), record(2, 0.7, 0.9), record(3, 0.7, 0.8), record(4, 0.6)]


@pytest.mark.parametrize("count", [1, 2, 4])
def test_a_picture_of_any_number_of_epochs(count, tmp_path):
    plot_curve(EPOCHS[:count], tmp_path / "curve.png", "lenet on mnist-10k")
    with Image.open(tmp_path / "curve.png") as picture:
        colours = {colour for _, colour in picture.convert("RGB").getcolors(1 << 24)}
    assert {(0x1F, 0x4E, 0x9C), (0x8A, 0x5A, 0x00)} <= colours  # both splits' marks, a lone epoch's too
    assert [path.name for path in tmp_path.iterdir()] == ["curve.png"]


def test_the_text_of_the_picture(tmp_path):
    plot_curve(EPOCHS, tmp_path / "curve.svg", "lenet on mnist-10k")
    texts = re.findall(r"<!-- (.*?) -->", (tmp_path / "curve.svg").read_text())  # matplotlib notes what it draws
    assert {"lenet on mnist-10k", "accuracy (test, epoch 3: 0.7000)", "cross-entropy (test, epoch 3: 0.8000)",
            "kept: epoch 3"} <= set(texts)  # fmt: skip
    assert texts.count("epoch") == 2


def test_the_kept_epoch_has_the_best_accuracy_then_the_lowest_loss_then_is_the_earliest():
    assert kept_epoch(EPOCHS)["epoch"] == 3
    assert kept_epoch([record(1), record(2)])["epoch"] == 1


def test_no_epochs_and_other_suffixes_are_refused(tmp_path):
    with pytest.raises(InputError, match="no epochs"):
        plot_curve([], tmp_path / "curve.png", "")
    with pytest.raises(InputError, match=r"\.png or \.svg"):
        plot_curve(EPOCHS, tmp_path / "curve.pdf", "")


MACHINE = {"cpu": "a processor", "threads": 2, "peak_memory_bytes": 1000}


def test_a_history_round_trips(tmp_path):
    path = history_path(tmp_path / "w.safetensors")
    write_history(path, INFO, MACHINE, EPOCHS, [[2, 1], [0, 3]])
    history = read_history(path)
    assert history.epochs == EPOCHS
    assert history.run["model"] == "lenet"
    assert history.machine == MACHINE
    assert history.confusion == [[2, 1], [0, 3]]


def change(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "there is no history at .*w.history.json; train-model writes it"),
        (lambda path: path.write_text(path.read_text()[:200]), "is damaged .*train again"),
        (lambda path: path.write_bytes(b"\xff\xfe\x00"), "is damaged .*train again"),
        (lambda path: path.write_text("[1]"), "no history of a training run"),
        (lambda path: change(path, schema_version=99), r"version 99, expected \d"),
        (lambda path: change(path, epochs={}), "lacks run, machine, epochs or confusion"),
        (lambda path: change(path, epochs=[record(1), {**record(2), "test_loss": "low"}]), "test_loss of its record 2"),
        (lambda path: change(path, epochs=[3]), "epoch of its record 1"),
    ],
    ids=["missing", "cut", "binary", "foreign", "version", "shape", "figure", "record"],
)
def test_a_damaged_history_is_refused_in_one_line(damage, message, tmp_path):
    path = tmp_path / "w.history.json"
    write_history(path, INFO, MACHINE, EPOCHS, [[2, 1], [0, 3]])
    damage(path)
    with pytest.raises(InputError, match=message) as error:
        read_history(path)
    assert "\n" not in str(error.value)
