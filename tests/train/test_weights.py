import pytest
import torch
from safetensors.torch import save_file

from edgeline.errors import InputError
from edgeline_train.models import MODELS
from edgeline_train.models.weights import (
    WeightsInfo,
    find_weights,
    info_from_weights,
    load_weights,
    weights_file_name,
    write_weights,
)

INFO = WeightsInfo(
    "lenet", "mnist-10k", "best", 0, 0.13, 0.31, tuple("0123456789"), 3, 2, 0.9, 0.3, "test accuracy", {"lr": 0.02}
)


def new(folder, dataset="mnist-10k", **changes):
    path = folder / weights_file_name("lenet", dataset, "best")
    info = WeightsInfo(**{**{k: getattr(INFO, k) for k in WeightsInfo.__slots__}, "dataset": dataset, **changes})
    write_weights(path, MODELS["lenet"].build().state_dict(), info)
    return path


def test_they_round_trip(tmp_path):
    path = tmp_path / "w.safetensors"
    source, target = MODELS["lenet"].build(), MODELS["lenet"].build()
    write_weights(path, source.state_dict(), INFO)
    assert load_weights(path, target, MODELS["lenet"]) == INFO
    for name, tensor in source.state_dict().items():
        assert torch.equal(tensor, target.state_dict()[name])


def test_the_same_weights_give_the_same_bytes(tmp_path):
    state = MODELS["lenet"].build().state_dict()
    contents = set()
    for i in range(5):
        write_weights(tmp_path / f"{i}.safetensors", state, INFO)
        contents.add((tmp_path / f"{i}.safetensors").read_bytes())
    assert len(contents) == 1


def test_names():
    assert weights_file_name("lenet", "mnist", "best") == "lenet-mnist.safetensors"
    assert weights_file_name("lenet", "mnist", "d2l") == "lenet-mnist-d2l.safetensors"


@pytest.mark.parametrize("cut", [10, 5_000, -1])
def test_damaged_weights_are_refused(tmp_path, cut):
    path = new(tmp_path)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(InputError, match="is damaged or no safetensors file"):
        load_weights(path, MODELS["lenet"].build(), MODELS["lenet"])


def test_weights_of_another_model_are_refused(tmp_path):
    path = new(tmp_path, model="alexnet")
    with pytest.raises(InputError, match="holds weights of 'alexnet', not of 'lenet'; name others with --weights"):
        load_weights(path, MODELS["lenet"].build(), MODELS["lenet"])


def test_weights_of_other_shapes_are_refused(tmp_path):
    path = tmp_path / "w.safetensors"
    write_weights(path, MODELS["lenet"].build(classes=3).state_dict(), INFO)
    with pytest.raises(InputError, match="does not fit this version of 'lenet'"):
        load_weights(path, MODELS["lenet"].build(), MODELS["lenet"])


def test_a_foreign_safetensors_file_is_refused(tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "w.safetensors")
    with pytest.raises(InputError, match="was not written by train-model"):
        info_from_weights(tmp_path / "w.safetensors")


def test_find_weights(tmp_path):
    with pytest.raises(InputError, match="make them with: train-model lenet$"):
        find_weights(MODELS["lenet"], tmp_path)
    with pytest.raises(InputError, match="make them with: train-model lenet --dataset mnist$"):
        find_weights(MODELS["lenet"], tmp_path, "mnist")
    path = new(tmp_path)
    assert find_weights(MODELS["lenet"], tmp_path) == path
    assert find_weights(MODELS["lenet"], path) == path
    other = new(tmp_path, "mnist")
    with pytest.raises(InputError, match="several weights of 'lenet' fit: .*choose one with --weights FILE") as caught:
        find_weights(MODELS["lenet"], tmp_path)
    assert str(path) in str(caught.value)
    assert str(other) in str(caught.value)
    assert find_weights(MODELS["lenet"], tmp_path, "mnist") == other
    with pytest.raises(InputError, match="there are no weights at"):
        find_weights(MODELS["lenet"], tmp_path / "none.safetensors")
