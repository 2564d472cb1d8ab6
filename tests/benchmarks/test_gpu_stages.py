"""Enqueue, compute and end to end on the double, whose device time is 1 ms a run and 0.25 ms a copy. Not on a GPU."""

import numpy as np
import pytest

from edgeline import cuda
from edgeline.backends.tensorrt import TensorRtSession
from edgeline.errors import InputError, MissingCapabilityError
from edgeline.manifest import BatchRange
from edgeline_bench.gpu_stages import measure_stages
from tests.doubles import gpu_double
from tests.doubles.artefacts import expected, images, small_graph, write_artefact

FLAVOURS = ("trt10", "trt11", "rtx")


@pytest.fixture(params=FLAVOURS)
def session(request, tmp_path, monkeypatch):
    monkeypatch.setenv("EDGELINE_CACHE", str(tmp_path / "cache"))
    with gpu_double(request.param) as world:
        name = "trt-rtx" if world.flavour.rtx else "trt"
        folder = write_artefact(tmp_path / "small", name, batch=BatchRange(1, 4, 8))
        with TensorRtSession(folder) as opened:
            opened.world = world
            yield opened


def test_compute_is_the_engine_without_the_copies(session):
    stages = measure_stages(session, images(4), 0.05)
    assert stages.compute_s == [0.001] * len(stages.compute_s)
    assert len(stages.enqueue_s) == len(stages.compute_s) >= 1
    assert min(stages.enqueue_s) > 0
    assert stages.end_to_end.calls == len(stages.end_to_end.samples_s) >= 1


def test_what_is_timed_is_the_graph(session):
    measure_stages(session, images(4), 0.05)
    kinds = [kind for kind, _batch in session.world.executions]
    if session.graphs_captured is not None:
        assert kinds.count("plain") == 2  # the first call unwatched, and the first one watched
        assert kinds[-1] == "graph"


def test_afterwards_calls_are_as_before(session):
    measure_stages(session, images(4), 0.02)
    assert session.world.events == {}
    recorded = session.world.calls.count("cudaEventRecordWithFlags")
    for _ in range(3):
        np.testing.assert_allclose(session.infer(images(4)), expected(small_graph(), images(4)), atol=1e-6)
    assert session.world.calls.count("cudaEventRecordWithFlags") == recorded


class FailsWhenWatched:
    """Its first watched call runs, the second one fails."""

    def __init__(self, session):
        self.session, self.left, self.watched = session, 1, False

    def watch(self, watcher):
        self.watched = watcher is not None
        self.session.watch(watcher)

    def infer(self, batch):
        self.left -= self.watched
        if self.left < 0:
            raise InputError("it broke")
        return self.session.infer(batch)


def test_a_call_that_fails_leaves_no_watcher_and_no_event(session):
    failing = FailsWhenWatched(session)
    with pytest.raises(InputError, match="it broke"):
        measure_stages(failing, images(2), 0.02)
    assert not failing.watched
    assert session.world.events == {}
    assert session.infer(images(2)).shape == (2, 3)


def test_a_closed_session_is_not_watched(session):
    session.close()
    with pytest.raises(InputError, match="is closed"):
        session.watch(None)


def test_without_a_gpu(monkeypatch):
    monkeypatch.setattr(cuda, "gpu", lambda: None)
    with pytest.raises(MissingCapabilityError, match="edgeline doctor finds none here"):
        measure_stages(None, images(1), 0.1)
