"""export-model --format trt and trt-rtx on a machine with a GPU, played by tests/doubles."""

import pytest

import edgeline
import edgeline_export.cli
from edgeline.artefact import open_artefact
from edgeline.selftest import run_selftest
from tests.conftest import one_line
from tests.doubles import Faults, gpu_double
from tests.doubles.plan import unpack_plan

MAIN = edgeline_export.cli.main


@pytest.fixture
def export(command, weights_folder, tmp_path):
    def run(*options):
        return command(MAIN, "lenet", "--weights", weights_folder, "--out", tmp_path / "out", *options)

    return run


@pytest.mark.parametrize("flavour", ["trt10", "trt11"])
@pytest.mark.parametrize(("precision", "wanted"), [("fp32", "fp32"), ("fp16", "fp16"), ("int8", "int8")])
def test_the_engine_is_built_judged_and_asked(export, tmp_path, flavour, precision, wanted):
    with gpu_double(flavour):
        code, _, _ = export("--format", "trt", "--precision", precision, "--require-engine", "--batch", "1:8:32")
        assert code == 0
        folder = tmp_path / "out" / f"lenet-mnist-10k.{precision}.trt"
        manifest = open_artefact(folder).manifest
        assert manifest.build == "built"
        assert manifest.target == {"gpu": "NVIDIA Double", "compute_capability": "8.9"}
        assert manifest.verification["engine"] == "tensorrt"
        assert manifest.verification["samples"] == 2_000
        assert manifest.precision_coverage["source"] == "engine"
        assert manifest.precision_coverage["macs"] == {wanted: 1.0}
        with edgeline.load(folder) as session:
            assert session.device == "cuda"
            assert run_selftest(session).top1_agreement == 1.0


@pytest.mark.parametrize(("precision", "flags"), [("fp32", ()), ("tf32", ("TF32",))])
@pytest.mark.parametrize(
    ("flavour", "format_name", "file"),
    [("trt10", "trt", "model.plan"), ("trt11", "trt", "model.plan"), ("rtx", "trt-rtx", "model.rtxplan")],
)
def test_tf32_is_allowed_where_it_is_asked_for_alone(export, tmp_path, flavour, format_name, file, precision, flags):
    with gpu_double(flavour):
        code, _, _ = export("--format", format_name, "--precision", precision)
    assert code == 0
    artefact = open_artefact(tmp_path / "out" / f"lenet-mnist-10k.{precision}.{format_name}")
    record, _ = unpack_plan(artefact.file(file).read_bytes())
    assert record.flags == flags
    assert artefact.manifest.precision == artefact.manifest.compilation["settings"]["precision"] == precision
    assert artefact.manifest.precision_coverage["macs"] == {"fp32": 1.0}


def test_an_engine_that_does_not_tell_leaves_the_graphs_word(export, tmp_path):
    with gpu_double("trt10", faults=Faults(melted=True)):
        code, _, err = export("--format", "trt", "--precision", "int8")
    assert code == 0
    assert "the engine does not tell the precision of 100.0% of its multiply-accumulates" in err
    manifest = open_artefact(tmp_path / "out" / "lenet-mnist-10k.int8.trt").manifest
    assert manifest.precision_coverage["source"] == "graph"


def test_an_engine_in_another_precision_is_not_written(export, tmp_path, monkeypatch):
    """Asked for int8, and every layer tells Float: the export fails, whatever the graph says."""
    monkeypatch.setattr("tests.doubles.inspector.EngineInspector._type_of", lambda self, name: "Float")
    with gpu_double("trt10"):
        code, out, err = export("--format", "trt", "--precision", "int8")
    assert (code, out) == (1, "")
    assert (
        "int8 was asked for, but 0.0% of the multiply-accumulates are in int8; not: node_conv2d (Conv, fp32"
        in one_line(err)
    )
    assert not list((tmp_path / "out").glob("*"))


def test_an_engine_that_tells_half_of_it_and_that_wrong_is_not_written(export, tmp_path, monkeypatch):
    """The first convolution tells nothing, the others Float: what is known is wrong enough."""
    monkeypatch.setattr(
        "tests.doubles.inspector.EngineInspector._type_of", lambda self, name: "N/A" if "input" in name else "Float"
    )
    with gpu_double("trt10"):
        code, _, err = export("--format", "trt", "--precision", "int8")
    assert code == 1
    assert "but 28.2% of the multiply-accumulates are in int8; not: node_conv2d_1 (Conv, fp32" in one_line(err)


def test_trt_rtx_is_judged_on_the_gpu_where_it_is_a_target(export, tmp_path):
    with gpu_double("rtx"):
        code, _, _ = export("--format", "trt-rtx", "--precision", "fp16")
    assert code == 0
    manifest = open_artefact(tmp_path / "out" / "lenet-mnist-10k.fp16.trt-rtx").manifest
    assert manifest.verification["engine"] == "tensorrt"


def test_trt_rtx_for_other_gpus_is_judged_by_its_graph(export, tmp_path):
    with gpu_double("rtx"):
        code, _, _ = export("--format", "trt-rtx", "--precision", "int8", "--compute-capability", "12.0")
    assert code == 0
    manifest = open_artefact(tmp_path / "out" / "lenet-mnist-10k.int8.trt-rtx@sm120").manifest
    assert manifest.verification["engine"] == "onnxruntime, the same graph"


def test_an_engine_that_computes_nonsense_is_not_written(export, tmp_path, monkeypatch):
    from edgeline.backends.tensorrt import TensorRtSession

    real = TensorRtSession._infer
    monkeypatch.setattr(TensorRtSession, "_infer", lambda self, batch: -real(self, batch))
    with gpu_double("trt10"):
        code, out, err = export("--format", "trt")
    assert (code, out) == (1, "")
    assert "accuracy falls from" in one_line(err)
    assert not list((tmp_path / "out").glob("*"))
