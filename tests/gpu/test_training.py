"""Training on an NVIDIA GPU: for whoever has one (make gpu-check)."""

import json

import pytest

import edgeline_train.cli
from edgeline.cuda import gpu

HERE = gpu()

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(HERE is None, reason="no NVIDIA GPU, or no driver"),
]


@pytest.mark.parametrize("model", ["lenet", "lenet-relu", "alexnet-28"])
def test_training_on_a_gpu_learns_what_it_learns_on_the_cpu(command, tmp_path, model):
    accuracies = []
    for device in ("cuda", "cpu"):
        code, out, err = command(
            edgeline_train.cli.main, model, "--epochs", 4, "--device", device, "--weights", tmp_path / device, "--json"
        )
        assert code == 0, err
        accuracies.append(json.loads(out)["accuracy"])
    assert accuracies[0] > 0.9
    assert accuracies[0] == pytest.approx(accuracies[1], abs=0.03)


def test_the_peak_of_the_gpus_memory_is_in_the_history(command, tmp_path):
    assert command(edgeline_train.cli.main, "lenet", "--epochs", 1, "--device", "cuda", "--weights", tmp_path)[0] == 0
    history = json.loads((tmp_path / "lenet-mnist-10k.history.json").read_text())
    assert history["machine"]["peak_device_memory_bytes"] > 1e6
    assert history["run"]["settings"]["compile"] is True
