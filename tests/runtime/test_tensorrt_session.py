"""The TensorRT session on the double: results, graphs, threads, what it holds and gives back."""

import threading

import numpy as np
import pytest

import edgeline
from edgeline.backends.tensorrt import MemoryUse, TensorRtSession
from edgeline.errors import InputError, ShapeError
from edgeline.manifest import BatchRange
from edgeline.selftest import run_selftest
from edgeline.tensorrt import execution
from tests.doubles import gpu_double
from tests.doubles.artefacts import expected, images, small_graph, write_artefact

TENSORRT = ("trt10", "trt11")
ALL = (*TENSORRT, "rtx")
WIDE = BatchRange(1, 4, 8)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The cache of this test alone."""
    monkeypatch.setenv("EDGELINE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def world(request, cache):
    """A machine with the double of a GPU; its teardown fails the test for each misuse and for what is left over."""
    with gpu_double(request.param) as opened:
        yield opened


@pytest.fixture
def artefact(world, tmp_path):
    return write_artefact(tmp_path / "small", "trt-rtx" if world.flavour.rtx else "trt", batch=WIDE)


def on(*flavours):
    return pytest.mark.parametrize("world", flavours, indirect=True)


@on(*ALL)
def test_it_computes_what_onnx_runtime_computes(world, artefact):
    with TensorRtSession(artefact) as session:
        for size in (1, 2, 8, 3, 1, 2, 8, 3, 1):  # each size by a plain run, and by its graph where there is one
            batch = images(size, seed=size)
            np.testing.assert_allclose(session.infer(batch), expected(small_graph(), batch), atol=1e-6)
        assert (session.engine, session.device) == ("tensorrt", "cuda")
        assert run_selftest(session).max_abs_diff < 1e-6


@on(*ALL)
def test_edgeline_load_chooses_it(world, artefact):
    with edgeline.load(artefact.folder) as session:
        assert isinstance(session, TensorRtSession)
        assert session.infer(images(2)).shape == (2, 3)


@on(*ALL)
def test_what_the_device_builds_passes_its_self_test_and_runs(world, tmp_path):
    bare = write_artefact(tmp_path / "bare", "trt-rtx" if world.flavour.rtx else "trt", built=False)
    with edgeline.load(bare.folder, build="missing") as session:
        np.testing.assert_allclose(session.infer(images(3)), expected(small_graph(), images(3)), atol=1e-6)
    with edgeline.load(bare.folder) as session:  # from the cache
        assert session.infer(images(1)).shape == (1, 3)


@on(*ALL)
def test_a_graph_with_a_fixed_batch(world, tmp_path):
    fixed = write_artefact(tmp_path / "fixed", "trt-rtx" if world.flavour.rtx else "trt", fixed=4)
    with TensorRtSession(fixed) as session:
        batch = images(4)
        for _ in range(3):
            np.testing.assert_allclose(session.infer(batch), expected(small_graph(4), batch), atol=1e-6)
        with pytest.raises(ShapeError, match="expected a batch of 4, got 3"):
            session.infer(images(3))
        np.testing.assert_allclose(session.infer_all(images(6))[:4], session.infer(images(6)[:4]), atol=1e-6)


@on(*TENSORRT)
def test_a_batch_size_is_run_plainly_once_and_by_its_graph_after_that(world, artefact):
    with TensorRtSession(artefact) as session:
        assert session.graphs_captured == ()
        for _ in range(3):
            session.infer(images(2))
        session.infer(images(5))
        assert session.graphs_captured == (2, 5)
        assert session.graphs_refused == {}
    assert world.executions == [("plain", 2), ("graph", 2), ("graph", 2), ("plain", 5)]


@on("trt10")
def test_the_batch_size_that_was_not_used_for_longest_loses_its_graph(world, artefact):
    with TensorRtSession(artefact) as session:
        for size in (1, 2, 3, 4, 1, 5, 6):  # 1 is used again: 2 goes first, then 3
            session.infer(images(size))
        assert session.graphs_captured == (4, 1, 5, 6)
        assert len(world.executables) == execution.GRAPHS_KEPT
        session.infer(images(2))
        assert world.executions[-1] == ("plain", 2)
        assert session.graphs_captured == (1, 5, 6, 2)
    assert world.held() == []


@on("rtx")
def test_tensorrt_rtx_is_told_to_capture_and_nothing_is_captured_by_hand(world, artefact):
    with TensorRtSession(artefact) as session:
        config = next(thing for thing in world.living() if type(thing).__name__ == "IRuntimeConfig")
        assert config.cuda_graph_strategy.name == "WHOLE_GRAPH_CAPTURE"
        del config
        for size in (1, 2, 1):
            session.infer(images(size))
        assert session.graphs_captured is None
    assert "cudaStreamBeginCapture" not in world.calls


@on(*ALL)
def test_two_calls_give_the_same_to_the_last_digit(world, artefact):
    """TensorRT-RTX would run another kernel at first, if it were not told to compile the right one before."""
    with TensorRtSession(artefact) as session:
        for size in (1, 3):
            first = session.infer(images(size))
            np.testing.assert_array_equal(session.infer(images(size)), first)


@on(*ALL)
def test_outputs_belong_to_the_caller(world, artefact):
    with TensorRtSession(artefact) as session:
        first = session.infer(images(2, seed=1))
        kept = first.copy()
        second = session.infer(images(2, seed=2))
        np.testing.assert_array_equal(first, kept)
        assert not np.shares_memory(first, second)
        first[:] = 0
        out = np.empty((2, 3), np.float32)
        assert session.infer(images(2, seed=2), out=out) is out
        np.testing.assert_array_equal(out, second)
    np.testing.assert_array_equal(out, second)


@on(*ALL)
def test_threads_take_turns_and_get_their_own_answers(world, artefact):
    world.linger_s = 0.0005
    start, wrong = threading.Barrier(4), []

    def work(seed):
        batch = images(seed + 1, seed=seed)
        right = expected(small_graph(), batch)
        start.wait()
        for _ in range(20):
            if not np.allclose(session.infer(batch), right, atol=1e-6):
                wrong.append(seed)

    with TensorRtSession(artefact) as session:
        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


@on(*ALL)
def test_close_waits_for_the_call_under_way(world, artefact):
    session = TensorRtSession(artefact)
    world.linger_s = 0.05
    answers = []
    running = threading.Thread(target=lambda: answers.append(session.infer(images(2))))
    running.start()
    while not session._lock.locked():
        running.join(0.001)
    session.close()
    running.join()
    np.testing.assert_allclose(answers[0], expected(small_graph(), images(2)), atol=1e-6)
    assert world.held() == []
    session.close()
    with pytest.raises(InputError, match="is closed; load it again"):
        session.infer(images(1))


@on("trt10")
def test_a_call_that_waits_while_the_session_is_closed_is_turned_away(world, artefact):
    session = TensorRtSession(artefact)
    answers = []

    def call():
        try:
            answers.append(session.infer(images(1)))
        except InputError as error:
            answers.append(str(error))

    with session._lock:  # as if another call was under way
        waiting, closing = threading.Thread(target=call), threading.Thread(target=session.close)
        waiting.start()
        waiting.join(0.05)  # it is past its first check
        closing.start()
        while not session._closed:
            closing.join(0.001)
    waiting.join()
    closing.join()
    assert "is closed; load it again" in answers[0]
    assert world.held() == []


@on(*ALL)
def test_a_batch_outside_the_profile_never_reaches_cuda(world, tmp_path):
    narrow = write_artefact(tmp_path / "narrow", "trt-rtx" if world.flavour.rtx else "trt", batch=BatchRange(2, 4, 8))
    with TensorRtSession(narrow) as session:
        before = list(world.calls)
        with pytest.raises(ShapeError, match=r"batch of 2 to 8, got 9; .* export-model --batch 2:4:9 "):
            session.infer(images(9))
        with pytest.raises(ShapeError, match=r"batch of 2 to 8, got 1; .* export-model --batch 1:4:8 "):
            session.infer(images(1))
        assert world.calls == before
        # infer_all cuts into pieces of 8, and fills the last one up to 2.
        for size in (1, 8, 9, 16, 17):
            batch = images(size)
            np.testing.assert_allclose(session.infer_all(batch), expected(small_graph(), batch), atol=1e-6)


@on(*ALL)
def test_what_it_holds_is_told_and_given_back(world, artefact):
    plan = next(p for p in artefact.folder.iterdir() if p.suffix in (".plan", ".rtxplan"))
    with TensorRtSession(artefact) as session:
        ends = 8 * (36 + 3) * 4  # the largest batch, 1 x 6 x 6 inputs and 3 outputs, float32
        assert session.memory_bytes() == MemoryUse(4096, ends, ends, plan.stat().st_size)
        on_device = sum(a.memory.nbytes for a in world.allocations.values() if a.kind == "device")
        assert on_device == ends + (0 if world.flavour.rtx else 4096)  # TensorRT-RTX's context holds its own
        pinned = sum(a.memory.nbytes for a in world.allocations.values() if a.kind == "pinned")
        assert pinned == ends
    session.close()
    assert world.held() == []


@on("trt10")
def test_an_engine_that_tells_its_memory_by_the_old_name_alone(world, artefact, monkeypatch):
    monkeypatch.delattr("tests.doubles.runtime.ICudaEngine.device_memory_size_v2")
    with TensorRtSession(artefact) as session:
        assert session.memory_bytes().activation_bytes == 4096


@on("trt10")
def test_a_plan_that_is_named_is_the_one_that_runs(world, tmp_path, artefact):
    other = write_artefact(tmp_path / "other", "trt", graph=small_graph(seed=7), batch=WIDE)
    with TensorRtSession(artefact, plan=other.file("model.plan")) as session:
        batch = images(2)
        np.testing.assert_allclose(session.infer(batch), expected(small_graph(seed=7), batch), atol=1e-6)
