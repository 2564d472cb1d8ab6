"""TensorRT sessions broken on purpose: the double must see it, or the session's own tests would prove nothing."""

import contextlib
import threading

import numpy as np
import pytest

import edgeline.backends.tensorrt
from edgeline.backends.tensorrt import TensorRtSession
from edgeline.errors import EdgelineError
from edgeline.tensorrt import execution
from edgeline.tensorrt.device import DeviceBuffer, Graph, PinnedBuffer, Stream
from edgeline.tensorrt.engine import Engine
from edgeline.tensorrt.runtime_cache import RuntimeCache
from tests.doubles import Faults, gpu_double
from tests.doubles.artefacts import expected, images, small_graph, write_artefact


@pytest.fixture
def seen(tmp_path, monkeypatch):
    """Run a session that a patch has broken; AssertionError with these words must come of it.

    `work` takes (session, batch, world) and returns the answer; without it, the batch is inferred.
    """
    monkeypatch.setenv("EDGELINE_CACHE", str(tmp_path / "cache"))

    def run(flavour, words, patch=None, *, sizes=(2, 2), faults=None, work=None):
        with pytest.raises(AssertionError, match=words), gpu_double(flavour, faults=faults) as world:
            artefact = write_artefact(tmp_path / "small", "trt-rtx" if flavour == "rtx" else "trt")
            with pytest.MonkeyPatch.context() as patches, contextlib.suppress(EdgelineError):
                if patch is not None:
                    patches.setattr(*patch)
                with TensorRtSession(artefact) as session:
                    for size in sizes:
                        batch = images(size)
                        answer = session.infer(batch) if work is None else work(session, batch, world)
                        assert np.allclose(answer, expected(small_graph(), batch), atol=1e-6), "a wrong answer"

    return run


@pytest.mark.parametrize("flavour", ["trt10", "trt11", "rtx"])
def test_without_synchronisation(flavour, seen):
    seen(flavour, "a wrong answer", (Stream, "synchronise", lambda _stream: None))


@pytest.mark.parametrize("flavour", ["trt10", "rtx"])
def test_without_a_lock(flavour, seen):
    def together(session, batch, world):
        start = threading.Barrier(3)

        def call():
            start.wait()
            with contextlib.suppress(EdgelineError):
                session.infer(batch)

        session._lock = contextlib.nullcontext()
        world.linger_s = 0.02
        threads = [threading.Thread(target=call) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        world.linger_s = 0.0
        return expected(small_graph(), batch)

    faults = Faults(capture="execute")  # so that each call enters a context
    seen(flavour, "two threads are in one context at once", sizes=(2,), faults=faults, work=together)


def test_one_context_for_all_graphs(seen):
    make, made = execution.CapturingRunner._new_context, []

    def one(runner):
        made.append(made[0] if made else make(runner))
        return made[-1]

    words = "after the context it was captured from was changed"
    seen("trt10", words, (execution.CapturingRunner, "_new_context", one), sizes=(1, 2, 1))


@pytest.mark.parametrize("flavour", ["trt10", "rtx"])
def test_pinned_memory_that_is_handed_out(flavour, seen):
    def twice(session, batch, _world):
        first = session.infer(batch)
        session.infer(batch * 2)
        return first

    alias = (execution.Buffers, "take", lambda buffers, batch: buffers._output[:batch])
    seen(flavour, "a wrong answer", alias, work=twice)


def test_host_buffers_that_are_not_pinned(seen):
    """It runs, slower: a capture of such copies is refused, so only the double's record tells."""

    class Ordinary(PinnedBuffer):
        def __init__(self, _cuda, nbytes, _purpose):
            self.nbytes = nbytes
            self.memory = np.zeros(nbytes, np.uint8)
            self.address = self.memory.ctypes.data

        def free(self):
            self.address = 0

    seen("trt10", "host memory that is not pinned is copied within a capture", (execution, "PinnedBuffer", Ordinary))


@pytest.mark.parametrize(
    ("patch", "words"),
    [
        ((Graph, "free", lambda _graph: None), "left over: executable graph"),
        ((DeviceBuffer, "free", lambda _buffer: None), "left over: device memory"),
        ((PinnedBuffer, "free", lambda _buffer: None), "left over: pinned memory"),
        ((Stream, "free", lambda _stream: None), "left over: stream"),
        ((Engine, "free", lambda _engine: None), "left over: a reference to Runtime"),
    ],
)
def test_what_is_not_given_back(patch, words, seen):
    seen("trt10", words, patch)


def test_what_is_given_back_twice(seen):
    free = DeviceBuffer.free

    def twice(buffer):
        address = buffer.address
        free(buffer)
        buffer.address = address
        with contextlib.suppress(EdgelineError):
            free(buffer)

    seen("trt10", "is freed but was freed twice", (DeviceBuffer, "free", twice))


def test_an_engine_that_is_freed_first(seen):
    open_runner = execution.CapturingRunner.__init__

    def early(runner, cuda, engine, stream, buffers, stack):
        open_runner(runner, cuda, engine, stream, buffers, stack)
        stack.callback(engine.free)

    seen("trt10", "an engine is freed before its context", (execution.CapturingRunner, "__init__", early))


@pytest.mark.parametrize("flavour", ["trt10", "rtx"])
def test_a_runtime_that_is_freed_first(flavour, seen):
    def free(engine):
        del engine._runtime
        del engine._engine

    seen(flavour, "a runtime is freed before its engine", (Engine, "free", free))


def test_a_runtime_cache_that_is_freed_first(seen):
    def early(session, batch, world):
        answer = session.infer(batch)
        config = next(thing for thing in world.living() if type(thing).__name__ == "IRuntimeConfig")
        config.set_runtime_cache(None)
        return answer

    save = RuntimeCache.save

    def save_and_free(cache):
        save(cache)
        cache.free()

    words = "a runtime cache is freed before the context that uses it"
    seen("rtx", words, (RuntimeCache, "save", save_and_free), work=early)


def test_tensorrt_rtx_captured_by_hand(seen):
    patch = (edgeline.backends.tensorrt, "captures_by_itself", lambda _engine: False)
    seen("rtx", "TensorRT-RTX captures by itself", patch)
