"""The session on OpenVINO: LeNet's model, against the same graph on ONNX Runtime."""

import shutil
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest

import edgeline
import edgeline_export.cli
from edgeline.backends.openvino import shared_core
from edgeline.errors import ArtefactError, MissingCapabilityError
from tests.sessions import check_calls_at_once, check_closing, check_memory

pytestmark = pytest.mark.skipif(find_spec("openvino") is None, reason="openvino is not installed: edgeline[peers]")
BATCH = np.random.default_rng(0).standard_normal((5, 1, 28, 28)).astype(np.float32)


@pytest.fixture(scope="module")
def folder(weights_folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("openvino")
    argv = ["lenet", "--weights", str(weights_folder), "--format", "openvino", "--out", str(out)]
    assert edgeline_export.cli.main(argv) == 0
    return out / "lenet-mnist-10k.fp32.openvino"


@pytest.fixture(scope="module")
def session(folder):
    with edgeline.load(folder) as opened:
        yield opened


@pytest.fixture(scope="module")
def reference(folder):
    with edgeline.load(folder, engine="onnxruntime") as opened:
        yield opened


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / folder.name)


@pytest.mark.parametrize("size", [1, 3, 8, 64, 200])
def test_it_computes_what_onnxruntime_computes(session, reference, size):
    batch = np.resize(BATCH, (size, 1, 28, 28))
    logits = session.infer(batch)
    assert (session.engine, session.device, logits.dtype) == ("openvino", "cpu", np.float32)
    np.testing.assert_allclose(logits, reference.infer(batch), rtol=0, atol=1e-4)


def test_two_threads_compute_the_same(folder, reference):
    with edgeline.load(folder, threads=2) as session:
        np.testing.assert_allclose(session.infer(BATCH), reference.infer(BATCH), rtol=0, atol=1e-4)


def test_a_size_that_was_given_up_is_compiled_again(folder, reference):
    with edgeline.load(folder) as session:
        for size in (1, 2, 3, 4, 5, 1):
            np.testing.assert_allclose(session.infer(BATCH[:size]), reference.infer(BATCH[:size]), rtol=0, atol=1e-4)


def test_memory_is_the_callers(session):
    check_memory(session)


def test_what_is_written_into_a_bound_batch_is_seen(session, reference):
    batch, out = BATCH.copy(), np.empty((5, 10), np.float32)
    session.infer(batch, out=out)
    batch += 1
    session.infer(batch, out=out)
    np.testing.assert_allclose(out, reference.infer(BATCH + 1), rtol=0, atol=1e-4)
    out[...] = 0
    session.infer(BATCH)  # no longer bound
    assert not out.any()


def test_four_threads_get_what_one_gets(session):
    check_calls_at_once(session)


def test_close_is_final(folder):
    check_closing(edgeline.load(folder))


def test_no_gpu(folder):
    with pytest.raises(MissingCapabilityError, match=r"OpenVINO: device='cpu'"):
        edgeline.load(folder, device="cuda")


def test_without_openvino_it_says_what_to_install(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingCapabilityError, match=r"pip install 'edgeline\[peers\]'"):
        edgeline.load(folder)


def test_bf16_is_refused_where_the_processor_lacks_it(copy, edit_manifest, monkeypatch):
    import openvino

    edit_manifest(copy, precision="bf16")
    monkeypatch.setattr(openvino.Core, "get_property", lambda self, device, name: ["FP32", "INT8"])
    with pytest.raises(MissingCapabilityError, match="no bfloat16 arithmetic .*FP32, INT8"):
        edgeline.load(copy)


def test_a_precision_that_openvino_artefacts_do_not_have(copy, edit_manifest):
    edit_manifest(copy, precision="fp16")
    with pytest.raises(ArtefactError, match="in fp16, openvino artefacts in fp32"):
        edgeline.load(copy)


@pytest.mark.parametrize("content", [b"", b"<net", b"no model"])
def test_a_damaged_model(copy, edit_manifest, content):
    (copy / "model.xml").write_bytes(content)
    edit_manifest(copy)
    with pytest.raises(ArtefactError, match=r"OpenVINO refuses .*model\.xml: .*export it again") as caught:
        edgeline.load(copy)
    assert "\n" not in str(caught.value)


def test_weights_that_are_cut_off(copy, edit_manifest):
    (copy / "model.bin").write_bytes((copy / "model.bin").read_bytes()[:1000])
    edit_manifest(copy)
    with pytest.raises(ArtefactError, match=r"OpenVINO refuses"):
        edgeline.load(copy)


def test_ends_that_are_not_the_manifests(copy, edit_manifest):
    end = {"name": "logits", "shape": [-1, 11], "dtype": "float32", "layout": None}
    edit_manifest(copy, outputs=[end], labels=None)
    with pytest.raises(ArtefactError, match=r"has the output .*manifest says logits \[-1, 11\]"):
        edgeline.load(copy)


def test_sessions_share_one_core_that_stays(folder):
    """The death of a Core unloads libraries that others' models point into."""
    with edgeline.load(folder) as one, edgeline.load(folder) as other:
        assert one._core is other._core is shared_core()


def test_loading_does_not_start_openvinos_telemetry(folder, tmp_path):
    """Its package would write a client's number into the home folder, and report."""
    code = f"import edgeline, sys; edgeline.load({str(folder)!r}).close(); print('openvino_telemetry' in sys.modules)"
    environment = {"HOME": str(tmp_path), "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    assert not list(tmp_path.iterdir())
