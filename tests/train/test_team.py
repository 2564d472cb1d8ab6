"""Several processes that train one network, started by torchrun as a user would."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edgeline.errors import InputError
from edgeline_train import team

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
TRAIN = ["-m", "edgeline_train", "lenet", "--device", "cpu", "--weights"]
# Two processes on few cores: threads of their own would only be in each other's way.
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def start(processes, restarts, folder, *options):
    command = [*TORCHRUN, "--nproc-per-node", str(processes), "--max-restarts", str(restarts), *TRAIN, folder, *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)


def kill_worker(process, folder, rank, line):
    """Send SIGKILL to the worker of that rank as soon as stderr has a line that starts so; return stderr so far."""
    seen = []
    for text in process.stderr:
        seen.append(text)
        if text.startswith(line):
            break
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words, variables = ((path / name).read_bytes().split(b"\0") for name in ("cmdline", "environ"))
        except OSError:  # it has ended meanwhile, or is not ours
            continue
        if bytes(folder) in words and f"RANK={rank}".encode() in variables:
            os.kill(int(path.name), signal.SIGKILL)
            return "".join(seen)
    raise AssertionError(f"no worker of rank {rank} in {folder}: {''.join(seen)}")


def accuracy_of(output):
    return json.loads(output)["accuracy"]


@pytest.mark.slow
def test_two_processes_do_what_one_does_and_a_lost_one_is_replaced(tmp_path):
    options = ("--epochs", "6", "--json")
    alone = subprocess.run(
        [sys.executable, *TRAIN, tmp_path / "alone", *options],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        check=True,
    )
    together = start(2, 0, tmp_path / "together", *options)
    out, err = together.communicate(timeout=600)
    assert together.returncode == 0, err
    assert "in each of 2 processes" in err
    assert err.count("epoch 6/6") == 1  # the lead alone prints
    # The same global batches in the same order: only the order of additions differs.
    assert accuracy_of(out) == pytest.approx(accuracy_of(alone.stdout), abs=0.01)

    halved = start(2, 1, tmp_path / "halved", *options)
    before = kill_worker(halved, tmp_path / "halved", 1, "epoch 2/6")
    out, err = halved.communicate(timeout=600)
    assert halved.returncode == 0, before + err
    assert "resuming from" in err
    assert "epoch 1/6" not in err
    assert accuracy_of(out) == pytest.approx(accuracy_of(alone.stdout), abs=0.01)
    name = "lenet-mnist-10k.safetensors"
    assert (tmp_path / "halved" / name).read_bytes() == (tmp_path / "together" / name).read_bytes()


@pytest.mark.slow
def test_a_lost_process_ends_the_run_with_a_clear_line(tmp_path):
    process = start(2, 0, tmp_path, "--epochs", "30")
    kill_worker(process, tmp_path, 1, "epoch  1/30")
    _, err = process.communicate(timeout=600)
    assert process.returncode != 0
    # The survivor sees its connection close, unless torchrun's SIGTERM reaches it first.
    assert (
        "train-model: process 0 lost another of the 2 that train together" in err
        or "stopped; go on with the same command and --resume" in err
    )
    assert [path.name for path in tmp_path.glob("*.checkpoint.pt")] == ["lenet-mnist-10k.checkpoint.pt"]


def test_a_process_alone_needs_no_torchrun(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "TORCHELASTIC_RESTART_COUNT"):
        monkeypatch.delenv(name, raising=False)
    with team.joined_team("cpu") as alone:
        assert alone == team.ALONE
    assert (team.team_size(), team.leads(), team.restarted(), team.own_device("cuda")) == (1, True, False, "cuda")


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_RANK", "2")
    monkeypatch.setattr("edgeline_train.team.torch.cuda.device_count", lambda: 2)
    chosen = []
    monkeypatch.setattr("edgeline_train.team.torch.cuda.set_device", chosen.append)
    with pytest.raises(InputError, match=r"torchrun started 3 or more processes here, for 2 GPU.s.: lower --nproc"):
        team.own_device("cuda")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert team.own_device("cuda") == "cuda:1"
    assert chosen == [1]
    assert team.own_device("cpu") == "cpu"
