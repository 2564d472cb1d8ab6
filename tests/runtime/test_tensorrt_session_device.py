"""TensorRT sessions in threads where another GPU is current, on the double: they use the first, and leave no trace."""

import gc
import sys
import threading

import numpy as np
import pytest

from edgeline.backends.tensorrt import TensorRtSession
from edgeline.errors import ArtefactError, EdgelineError
from edgeline.tensorrt.device import OnDevice
from tests.doubles import FLAVOURS, Faults, gpu_double
from tests.doubles.artefacts import expected, images, small_graph, write_artefact

on_each = pytest.mark.parametrize("flavour", FLAVOURS)
OTHER = 1


@pytest.fixture
def made(tmp_path, monkeypatch):
    """An artefact for a flavour."""
    monkeypatch.setenv("EDGELINE_CACHE", str(tmp_path / "cache"))

    def make(flavour):
        with gpu_double(flavour):
            return write_artefact(tmp_path / "small", "trt-rtx" if flavour == "rtx" else "trt")

    return make


def choose(device):
    """Do what a program with work on several GPUs does: torch.cuda.set_device(), or this."""
    sys.modules["cuda.bindings.runtime"].cudaSetDevice(device)


@on_each
def test_a_thread_with_another_device(flavour, made):
    artefact, seen = made(flavour), []

    def work(world, session):
        choose(OTHER)
        for size in (1, 3, 1, 3):
            close = np.allclose(session.infer(images(size)), expected(small_graph(), images(size)), atol=1e-6)
            seen.append((close, world.device))

    with gpu_double(flavour) as world, TensorRtSession(artefact) as session:
        session.infer(images(1))
        thread = threading.Thread(target=work, args=(world, session))
        thread.start()
        thread.join()
        assert seen == [(True, OTHER)] * 4
        assert world.device == 0


@on_each
def test_a_program_that_changes_its_device_between_calls(flavour, made):
    artefact = made(flavour)
    with gpu_double(flavour) as world:
        choose(OTHER)
        session = TensorRtSession(artefact)
        assert world.device == OTHER
        for device in (0, OTHER, 0, OTHER):
            choose(device)
            np.testing.assert_allclose(session.infer(images(2)), expected(small_graph(), images(2)), atol=1e-6)
            assert world.device == device
        session.close()
        assert world.device == OTHER


@on_each
def test_a_session_that_is_dropped_where_another_device_is_current(flavour, made):
    artefact = made(flavour)
    with gpu_double(flavour) as world:
        session = TensorRtSession(artefact)
        session.infer(images(2))
        choose(OTHER)
        del session
        gc.collect()
        assert (world.device, world.held()) == (OTHER, [])


@on_each
def test_a_session_that_does_not_open_leaves_the_device(flavour, made):
    artefact = made(flavour)
    with gpu_double(flavour, faults=Faults(deserialise="Serialization assertion failed")) as world:
        choose(OTHER)
        with pytest.raises(ArtefactError, match="does not load"):
            TensorRtSession(artefact)
        assert world.device == OTHER


@pytest.mark.parametrize("flavour", ["trt10", "rtx"])
def test_where_the_first_device_is_current_nothing_is_set(flavour, made):
    artefact = made(flavour)
    with gpu_double(flavour) as world, TensorRtSession(artefact) as session:
        assert world.calls.count("cudaSetDevice") == 1  # it starts CUDA
        session.infer(images(1))
        assert world.calls.count("cudaSetDevice") == 1


def test_a_device_that_cannot_be_made_current_again(made, monkeypatch):
    artefact = made("trt10")
    with gpu_double("trt10") as world, TensorRtSession(artefact) as session:
        choose(OTHER)
        leave = OnDevice.__exit__

        def failing(block, *error):
            world.faults.cuda = {"cudaSetDevice": "cudaErrorIllegalAddress"}
            try:
                leave(block, *error)
            finally:
                world.faults.cuda = {}

        with monkeypatch.context() as patch:
            patch.setattr(OnDevice, "__exit__", failing)
            with pytest.raises(EdgelineError, match="cudaSetDevice failed with cudaErrorIllegalAddress"):
                session.infer(images(1))
            choose(OTHER)
            world.faults.refuse = "set_input_shape"
            with pytest.raises(EdgelineError, match="set_input_shape failed"):  # the first error is the one that tells
                session.infer(images(2))
            world.faults.refuse = ""


def test_a_session_is_freed_even_where_its_device_cannot_be_made_current(made):
    artefact = made("trt10")
    with gpu_double("trt10") as world:
        session = TensorRtSession(artefact)
        session.infer(images(1))
        world.faults.cuda = {"cudaGetDevice": "cudaErrorIllegalAddress"}
        with pytest.raises(EdgelineError, match="cudaGetDevice failed"):
            session.close()
        assert world.held() == []
