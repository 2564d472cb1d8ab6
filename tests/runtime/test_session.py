import json
import threading

import numpy as np
import pytest
import torch

import edgeline
from edgeline.errors import ArtefactError, InputError, MissingCapabilityError, ShapeError, UnknownNameError
from edgeline_train.data import DATASETS, load_split
from edgeline_train.models import MODELS
from edgeline_train.models.weights import load_weights

BATCH = np.random.default_rng(0).standard_normal((5, 1, 28, 28)).astype(np.float32)


@pytest.fixture(scope="module")
def session(exported):
    with edgeline.load(exported) as opened:
        yield opened


@pytest.fixture(scope="module")
def eager(weights_file):
    network = MODELS["lenet"].build().eval()
    load_weights(weights_file, network, MODELS["lenet"])
    return lambda batch: network(torch.from_numpy(batch)).detach().numpy()


@pytest.mark.parametrize("size", [1, 5, 64, 200])
def test_it_computes_what_eager_pytorch_computes(session, eager, size):
    batch = np.resize(BATCH, (size, 1, 28, 28))
    logits = session.infer(batch)
    assert logits.shape == (size, 10)
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, eager(batch), atol=1e-4)


def test_out_is_filled_and_returned(session):
    out = np.full((5, 10), np.nan, np.float32)
    assert session.infer(BATCH, out=out) is out
    np.testing.assert_array_equal(out, session.infer(BATCH))


def test_the_result_is_the_callers(session):
    first = session.infer(BATCH)
    kept = first.copy()
    session.infer(BATCH * 2)
    np.testing.assert_array_equal(first, kept)
    first[:] = 0
    assert session.infer(BATCH).any()


def test_a_batch_in_another_memory_order_gives_the_same(session):
    scattered = np.asfortranarray(BATCH)
    assert not scattered.flags.c_contiguous
    np.testing.assert_array_equal(session.infer(scattered), session.infer(BATCH))


@pytest.mark.parametrize(
    ("batch", "words"),
    [
        (BATCH.astype(np.float64), r"expected float32 \[N, 1, 28, 28\], got float64 \[5, 1, 28, 28\]"),
        (BATCH[:, 0], r"got float32 \[5, 28, 28\]"),
        (BATCH[:, :, :27], r"got float32 \[5, 1, 27, 28\]"),
        (BATCH[:0], "expected a batch of at least 1, got 0"),
        (BATCH.tolist(), "expected a numpy array, got list"),
        (np.float32(1), "expected a numpy array, got float32"),
    ],
)
def test_batches_that_do_not_fit(session, batch, words):
    with pytest.raises(ShapeError, match=words):
        session.infer(batch)


@pytest.mark.parametrize("out", [np.empty((5, 9), np.float32), np.empty((5, 10), np.float64)])
def test_an_out_that_does_not_fit(session, out):
    with pytest.raises(ShapeError, match=r"out: expected float32 \[5, 10\]"):
        session.infer(BATCH, out=out)


def test_classify_reaches_the_accuracy_in_the_manifest(session):
    split = load_split(DATASETS["mnist-10k"], "test")
    classes = session.classify(split.images)
    assert classes.dtype == np.int64
    accuracy = float(np.mean(classes == split.labels))
    assert accuracy == pytest.approx(session.manifest.verification["accuracy_exported"], abs=1e-9)
    assert accuracy > 0.5
    assert session.labels == tuple("0123456789")


def test_classify_without_images(session):
    with pytest.raises(ShapeError, match="expected at least one image"):
        session.classify(np.empty((0, 28, 28), np.uint8))


def test_many_threads_share_a_session(session):
    expected = session.infer(BATCH)
    wrong = []

    def work():
        for _ in range(50):
            if not np.array_equal(session.infer(BATCH), expected):
                wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_close_is_final_and_may_be_repeated(exported):
    session = edgeline.load(exported)
    session.close()
    session.close()
    with pytest.raises(InputError, match="is closed; load it again"):
        session.infer(BATCH)


@pytest.mark.parametrize(
    ("keywords", "error", "words"),
    [
        ({"device": "tpu"}, InputError, "unknown device 'tpu'"),
        ({"device": "cuda"}, MissingCapabilityError, "edgeline\\[gpu\\]"),
        ({"threads": 0}, InputError, "threads must be a whole number of at least 1, got 0"),
        ({"threads": "2"}, InputError, "threads must be a whole number of at least 1, got '2'"),
        ({"engine": "onnxruntim"}, UnknownNameError, "did you mean onnxruntime"),
    ],
)
def test_what_cannot_be_loaded(exported, keywords, error, words):
    if (
        keywords.get("device") == "cuda"
        and "CUDAExecutionProvider" in __import__("onnxruntime").get_available_providers()
    ):
        pytest.skip("onnxruntime here has the CUDA provider: its absence cannot be tested")
    with pytest.raises(error, match=words):
        edgeline.load(exported, **keywords)


def test_without_onnxruntime_the_error_names_the_line(exported, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(MissingCapabilityError, match=r"pip install 'edgeline\[onnx\]'"):
        edgeline.load(exported)


def test_a_graph_that_the_engine_refuses(artefact, edit_manifest):
    (artefact / "model.onnx").write_bytes(b"no graph")
    edit_manifest(artefact)
    with pytest.raises(ArtefactError, match="ONNX Runtime refuses"):
        edgeline.load(artefact)


def test_a_manifest_that_names_another_input(artefact, edit_manifest):
    record = json.loads((artefact / "manifest.json").read_text())
    edit_manifest(artefact, inputs=[{**record["inputs"][0], "name": "pixels"}])
    with pytest.raises(ArtefactError, match="has the input .*'input'.*, its manifest says .*'pixels'"):
        edgeline.load(artefact)


def test_a_format_without_engine(artefact, edit_manifest):
    edit_manifest(artefact, format="onx")
    with pytest.raises(UnknownNameError, match="unknown artefact format 'onx' \\(did you mean onnx\\?\\)"):
        edgeline.load(artefact)


def test_without_preprocessing_pixels_are_refused(artefact, edit_manifest):
    edit_manifest(artefact, preprocessing=None)
    with (
        edgeline.load(artefact) as session,
        pytest.raises(InputError, match="does not say how pixels become its input"),
    ):
        session.classify(np.zeros((1, 28, 28), np.uint8))
