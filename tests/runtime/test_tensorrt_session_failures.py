"""The TensorRT session on the double: calls that fail, graphs that cannot be captured, and what comes after them."""

import numpy as np
import pytest

from edgeline.backends.tensorrt import TensorRtSession
from edgeline.errors import EdgelineError
from edgeline.tensorrt.device import Stream
from tests.doubles import FLAVOURS, Faults, gpu_double
from tests.doubles.artefacts import expected, images, small_graph, write_artefact
from tests.doubles.context import IExecutionContext

on_each = pytest.mark.parametrize("flavour", FLAVOURS)


@pytest.fixture
def made(tmp_path, monkeypatch):
    """An artefact for a flavour, built on a machine where all is well."""
    monkeypatch.setenv("EDGELINE_CACHE", str(tmp_path / "cache"))

    def make(flavour):
        with gpu_double(flavour):
            return write_artefact(tmp_path / "small", "trt-rtx" if flavour == "rtx" else "trt")

    return make


@pytest.mark.parametrize("flavour", ["trt10", "trt11"])
def test_a_context_that_tensorrt_does_not_make(flavour, made):
    artefact = made(flavour)
    faults = Faults(context="Error Code 9: Internal Error")
    words = "create_execution_context failed: .*Error Code 9"
    with (
        gpu_double(flavour, faults=faults),
        TensorRtSession(artefact) as session,
        pytest.raises(EdgelineError, match=words),
    ):
        session.infer(images(1))


@on_each
@pytest.mark.parametrize("method", ["set_input_shape", "set_tensor_address", "execute_async_v3"])
def test_what_tensorrt_refuses_is_an_error_in_its_words(flavour, method, made):
    artefact = made(flavour)
    with gpu_double(flavour, faults=Faults(refuse=method)) as world, TensorRtSession(artefact) as session:
        with pytest.raises(EdgelineError, match=f"{method} failed: {method}: the double was told to refuse"):
            session.infer(images(1))
        world.faults.refuse = ""
        np.testing.assert_allclose(session.infer(images(1)), expected(small_graph(), images(1)), atol=1e-6)


def test_a_profile_that_is_refused(made):
    artefact = made("trt10")
    faults = Faults(refuse="set_optimization_profile_async")
    with gpu_double("trt10", faults=faults) as world, TensorRtSession(artefact) as session:
        session.infer(images(1))  # the first context has its profile
        words = "set_optimization_profile_async failed: set_optimization_profile_async: the double was told to refuse"
        with pytest.raises(EdgelineError, match=words):
            session.infer(images(2))
        world.faults.refuse = ""
        np.testing.assert_allclose(session.infer(images(2)), expected(small_graph(), images(2)), atol=1e-6)


def test_what_tensorrt_raises_is_told_where_its_log_is_silent(made, monkeypatch):
    artefact = made("trt10")

    def silent(context, profile_index, stream_handle):
        raise RuntimeError("Error in set optimization profile async.")

    with gpu_double("trt10"), TensorRtSession(artefact) as session:
        session.infer(images(1))
        monkeypatch.setattr(IExecutionContext, "set_optimization_profile_async", silent)
        words = "set_optimization_profile_async failed: Error in set optimization profile async."
        with pytest.raises(EdgelineError, match=words):
            session.infer(images(2))


@on_each
def test_a_run_that_fails_leaves_the_next_one_right(flavour, made):
    artefact = made(flavour)
    with gpu_double(flavour, faults=Faults(execute=1)), TensorRtSession(artefact) as session:
        with pytest.raises(EdgelineError, match="execute_async_v3 failed"):
            session.infer(images(2))
        for seed in range(3):
            batch = images(2, seed=seed)
            np.testing.assert_allclose(session.infer(batch), expected(small_graph(), batch), atol=1e-6)


@on_each
def test_an_error_on_the_device_reaches_the_caller(flavour, made):
    artefact = made(flavour)
    with gpu_double(flavour) as world, TensorRtSession(artefact) as session:
        session.infer(images(2))
        world.faults.cuda = {"cudaStreamSynchronize": "cudaErrorIllegalAddress"}
        with pytest.raises(EdgelineError, match="cudaStreamSynchronize failed with cudaErrorIllegalAddress"):
            session.infer(images(2))
        world.faults.cuda = {}
        for stream in world.streams.values():
            stream.queue.clear()  # what the device gave up


# --- graphs


@pytest.mark.parametrize("flavour", ["trt10", "trt11"])
@pytest.mark.parametrize(
    ("capture", "words"),
    [("execute", "operation not permitted when stream is capturing"), ("instantiate", "cudaGraphInstantiate failed")],
)
def test_work_that_cannot_be_captured_runs_all_the_same_and_says_so(flavour, capture, words, made, capsys):
    artefact = made(flavour)
    with gpu_double(flavour, faults=Faults(capture=capture)) as world, TensorRtSession(artefact) as session:
        for _ in range(3):
            np.testing.assert_allclose(session.infer(images(2)), expected(small_graph(), images(2)), atol=1e-6)
        assert session.graphs_captured == ()
        assert words in session.graphs_refused[2]
        assert world.calls.count("cudaStreamBeginCapture") == 1  # it is not tried again and again
        assert world.executions == [("plain", 2)] * 3
        session.infer(images(3))
        assert set(session.graphs_refused) == {2, 3}
    (note,) = capsys.readouterr().err.splitlines()  # once, and not for each batch size
    assert note.startswith("no CUDA graph for batches of 2: they run right, and each call costs more: ")
    assert words in note


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("cuda_graph_strategy", "at DISABLED where WHOLE_GRAPH_CAPTURE was asked for: each call costs more"),
        ("dynamic_shapes_kernel_specialization_strategy", "at LAZY where EAGER was asked for: the first calls of a"),
    ],
)
def test_a_setting_that_tensorrt_rtx_does_not_take_is_noted(setting, words, made, capsys):
    artefact = made("rtx")
    with gpu_double("rtx", faults=Faults(setting=setting)), TensorRtSession(artefact) as session:
        np.testing.assert_allclose(session.infer(images(2)), expected(small_graph(), images(2)), atol=1e-6)
    (note,) = capsys.readouterr().err.splitlines()
    assert note.startswith(f"TensorRT-RTX 1.7.1.116 leaves {setting} {words}")


def test_a_graph_that_does_not_launch(made):
    artefact = made("trt10")
    with gpu_double("trt10") as world, TensorRtSession(artefact) as session:
        session.infer(images(2))
        world.faults.cuda = {"cudaGraphLaunch": "cudaErrorIllegalAddress"}
        with pytest.raises(EdgelineError, match="cudaGraphLaunch failed"):
            session.infer(images(2))
        world.faults.cuda = {}
        np.testing.assert_allclose(session.infer(images(2)), expected(small_graph(), images(2)), atol=1e-6)


def test_ctrl_c_within_a_capture_leaves_the_stream_usable(made, monkeypatch):
    artefact = made("trt10")
    with gpu_double("trt10") as world, TensorRtSession(artefact) as session:
        real = Stream.copy_to_host

        def interrupted(stream, target, source, nbytes):
            real(stream, target, source, nbytes)
            if world.streams[stream.address].capture is not None:
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(Stream, "copy_to_host", interrupted)
            with pytest.raises(KeyboardInterrupt):
                session.infer(images(2))
        np.testing.assert_allclose(session.infer(images(2)), expected(small_graph(), images(2)), atol=1e-6)


def test_what_cannot_be_freed_does_not_keep_the_rest(made):
    artefact = made("trt10")
    with gpu_double("trt10") as world:
        session = TensorRtSession(artefact)
        session.infer(images(1))
        world.faults.cuda = {"cudaFreeHost": "cudaErrorIllegalAddress"}
        with pytest.raises(EdgelineError, match="cudaFreeHost failed with cudaErrorIllegalAddress"):
            session.close()
        assert [what.split(" at ")[0] for what in world.held()] == ["pinned memory", "pinned memory"]
        world.allocations.clear()
