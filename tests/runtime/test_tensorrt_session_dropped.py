"""TensorRT sessions that nobody closes, on the double: what they hold is given back, and compiled kernels are kept."""

import gc
import json
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

import edgeline.backends.tensorrt
from edgeline.backends.tensorrt import TensorRtSession
from edgeline.tensorrt import runtime_cache
from edgeline.tensorrt.device import Stream
from tests.doubles import FLAVOURS, gpu_double
from tests.doubles.artefacts import expected, images, small_graph, write_artefact

ROOT = Path(__file__).parents[2]
on_each = pytest.mark.parametrize("flavour", FLAVOURS)


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Where the compiled kernels go."""
    monkeypatch.setenv("EDGELINE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / runtime_cache.FOLDER


@pytest.fixture
def made(tmp_path, root):
    """An artefact for a flavour."""

    def make(flavour):
        with gpu_double(flavour):
            return write_artefact(tmp_path / "small", "trt-rtx" if flavour == "rtx" else "trt")

    return make


@on_each
def test_a_session_that_is_dropped_gives_all_back(flavour, made, capsys):
    artefact = made(flavour)
    with gpu_double(flavour) as world:
        session = TensorRtSession(artefact)
        for size in (1, 2, 1, 2):
            session.infer(images(size))
        assert world.held()
        del session
        gc.collect()
        assert world.held() == []
    assert capsys.readouterr().err == ""


@on_each
def test_a_session_that_was_closed_gives_nothing_back_again(flavour, made):
    artefact = made(flavour)
    with gpu_double(flavour) as world:
        session = TensorRtSession(artefact)
        session.infer(images(1))
        session.close()
        calls = list(world.calls)
        del session
        gc.collect()
        assert world.calls == calls


def test_what_a_dropped_session_cannot_free_is_noted_and_does_not_keep_the_rest(made, capsys):
    artefact = made("trt10")
    with gpu_double("trt10") as world:
        session = TensorRtSession(artefact)
        session.infer(images(1))
        world.faults.cuda = {"cudaFreeHost": "cudaErrorIllegalAddress"}
        del session
        gc.collect()
        assert [what.split(" at ")[0] for what in world.held()] == ["pinned memory", "pinned memory"]
        world.allocations.clear()
    err = capsys.readouterr().err
    assert "model.plan was not closed, and not all that it holds could be given back: CUDA on NVIDIA Double" in err
    assert "Traceback" not in err


def test_in_the_child_of_a_fork_nothing_is_freed(made, monkeypatch):
    """CUDA does not work there, and its memory is the parent's."""
    artefact = made("trt10")
    with gpu_double("trt10") as world:
        session = TensorRtSession(artefact)
        session.infer(images(1))
        calls, held = list(world.calls), world.held()
        with monkeypatch.context() as patch:
            patch.setattr(edgeline.backends.tensorrt.os, "getpid", lambda: -1)
            del session
            gc.collect()
        assert (world.calls, world.held()) == (calls, held)
        edgeline.backends.tensorrt._ABANDONED.pop().close()


def test_a_call_that_does_not_end_does_not_keep_the_program(made, monkeypatch, capsys):
    artefact = made("trt10")
    monkeypatch.setattr(edgeline.backends.tensorrt, "_PATIENCE_S", 0.01)
    with gpu_double("trt10") as world:
        session = TensorRtSession(artefact)
        held = world.held()
        with session._lock:  # as if a daemon thread was in a call
            session._unclosed()  # as the interpreter calls it when it ends
        assert world.held() == held
        assert "model.plan was in a call when the program ended; what it holds goes" in capsys.readouterr().err
        session._stack.close()


def test_a_session_that_the_collector_finds_while_another_one_captures(made, monkeypatch):
    artefact = made("trt10")
    real, lost = Stream.copy_to_device, []

    def collecting(stream, target, source, nbytes):
        real(stream, target, source, nbytes)
        if world.streams[stream.address].capture is not None:
            lost.clear()
            if gc.isenabled():  # then it may run at any moment
                gc.collect()

    monkeypatch.setattr(Stream, "copy_to_device", collecting)
    with gpu_double("trt10") as world, TensorRtSession(artefact) as session:
        lost.append(TensorRtSession(artefact))
        lost[0].itself = lost[0]  # only the collector can find it
        session.infer(images(2))
        assert lost == []
        assert session.graphs_captured == (2,)
        gc.collect()
        assert len(world.streams) == 1


# --- the end of the program

PROGRAM = """
import atexit, json, os, sys
ended, last_words = None, ""
def report():  # registered first: runs last
    if ended is not None:
        ended.wait(10)
    print(json.dumps([world.violations, world.held(), sorted(os.listdir(cache)), last_words]))
atexit.register(report)

import threading, time
import edgeline
from pathlib import Path
from edgeline.tensorrt.runtime_cache import FOLDER
from tests.doubles import gpu_double
from tests.doubles.artefacts import images, write_artefact

flavour, folder = sys.argv[1], Path(sys.argv[2])
cache = folder / "cache" / FOLDER
cache.mkdir(mode=0o700, parents=True)
cache.parent.chmod(0o700)
os.environ["EDGELINE_CACHE"] = str(cache.parent)
opened = gpu_double(flavour)
world = opened.__enter__()
artefact = write_artefact(folder / "small", "trt-rtx" if flavour == "rtx" else "trt")
session = edgeline.load(artefact.folder)
session.infer(images(2))
"""

DAEMON = """
def for_ever():
    global last_words
    try:
        while True:
            session.infer(images(2))
    except edgeline.errors.InputError as error:
        last_words = str(error)
    ended.set()

world.linger_s, ended = 0.01, threading.Event()
threading.Thread(target=for_ever, daemon=True).start()
time.sleep(0.1)
"""


def run(program, flavour, folder):
    command = [sys.executable, "-c", textwrap.dedent(program), flavour, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@on_each
def test_a_session_that_is_open_when_the_program_ends(flavour, tmp_path):
    violations, held, kernels, _words = json.loads(run(PROGRAM, flavour, tmp_path))
    assert (violations, held) == ([], [])
    assert [name.endswith(".bin") for name in kernels].count(True) == (flavour == "rtx")


@on_each
def test_a_daemon_thread_that_goes_on_when_the_program_ends_is_turned_away(flavour, tmp_path):
    violations, held, _kernels, words = json.loads(run(PROGRAM + DAEMON, flavour, tmp_path))
    assert (violations, held) == ([], [])
    assert "this session of small is closed" in words


# --- TensorRT-RTX's compiled kernels


def test_compiled_kernels_are_kept_as_soon_as_a_batch_size_has_run(made, root, monkeypatch):
    artefact, written = made("rtx"), []
    write = runtime_cache.write_checked
    monkeypatch.setattr(runtime_cache, "write_checked", lambda path, content: written.append(write(path, content)))
    with gpu_double("rtx") as world, TensorRtSession(artefact) as session:
        for size, count in ((1, 1), (1, 1), (3, 2), (1, 2), (3, 2)):
            session.infer(images(size))
            assert len(written) == count
        assert world.compiled == [1, 3]
        with gpu_double("rtx") as later, TensorRtSession(artefact) as second:  # as after a crash of the first
            np.testing.assert_allclose(second.infer(images(3)), expected(small_graph(), images(3)), atol=1e-6)
            assert later.compiled == []
    assert len(written) == 2
