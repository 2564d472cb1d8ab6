"""export-model with --format trt and trt-rtx, on a machine without a GPU, with real TensorRT-RTX engines."""

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import edgeline
import edgeline_export.cli
from edgeline.artefact import open_artefact
from edgeline.selftest import run_selftest
from edgeline.tensorrt.plan_header import HEADER_BYTES, read_plan_header
from edgeline.tensorrt.products import PRODUCTS, ProductState, product_state
from edgeline_export.formats import trt as trt_formats
from tests.conftest import one_line
from tests.export.networks import rich_graph, written_by_hand

MAIN = edgeline_export.cli.main

pytestmark = pytest.mark.skipif(
    product_state("trt-rtx").module is None, reason=f"TensorRT-RTX: {product_state('trt-rtx').why}"
)


@pytest.fixture
def export(command, weights_folder, tmp_path, monkeypatch):
    """Run export-model lenet as on a machine without a GPU."""
    monkeypatch.setattr(trt_formats, "gpu", lambda: None)

    def run(*options, subject="lenet"):
        weights = ["--weights", weights_folder] if subject == "lenet" else []
        return command(MAIN, subject, *weights, "--out", tmp_path / "out", *options)

    return run


@pytest.mark.parametrize(
    "precision", ["fp32", "int8+fp16", *(pytest.param(p, marks=pytest.mark.slow) for p in ("tf32", "fp16", "int8"))]
)
def test_trt_rtx_builds_an_engine_in_every_precision(export, tmp_path, precision):
    code, out, _ = export("--format", "trt-rtx", "--precision", precision, "--batch", "1:4:16")
    assert code == 0
    artefact = open_artefact(tmp_path / "out" / f"lenet-mnist-10k.{precision}.trt-rtx")
    manifest = artefact.manifest
    plan = artefact.file("model.rtxplan").read_bytes()
    header = read_plan_header(plan[:HEADER_BYTES], "plan")
    assert (header.product, header.total_bytes) == ("TensorRT-RTX", len(plan))
    assert manifest.build == "built"
    assert manifest.compilation["plan_bytes"] == len(plan)
    assert manifest.compilation["strongly_typed"]
    assert manifest.compilation["settings"]["batch"] == {"min": 1, "opt": 4, "max": 16}
    assert manifest.compilation["settings"]["precision"] == precision
    assert manifest.precision_coverage["source"] == "graph"
    wanted = {"fp32": "fp32", "tf32": "fp32", "fp16": "fp16"}.get(precision, "int8")
    assert manifest.precision_coverage["macs"] == {wanted: 1.0}
    assert manifest.precision_coverage["weights"][wanted] > 0.99
    assert manifest.verification["drop"] <= 0.005
    assert manifest.verification["engine"].startswith("onnxruntime")
    assert ("rounded to float16" in manifest.verification["engine"]) == ("fp16" in precision)
    assert (manifest.calibration is None) == (precision in ("fp32", "tf32"))
    assert out.count("\n") == 1


def test_int8_for_onnx_runtime_runs_and_tests_itself(export, tmp_path):
    code, _, _ = export("--precision", "int8")
    assert code == 0
    folder = tmp_path / "out" / "lenet-mnist-10k.int8.onnx"
    manifest = open_artefact(folder).manifest
    assert manifest.precision_coverage["macs"] == {"int8": 1.0}
    assert set(manifest.precision_coverage["weights"]) == {"int8", "int32"}
    assert manifest.calibration["samples"] == 512
    assert manifest.verification["drop"] <= 0.005
    with edgeline.load(folder) as session:
        result = run_selftest(session)
    assert result.top1_agreement == 1.0
    page = (folder / "report.html").read_text()
    tensors = json.loads((folder / "calibration.json").read_text())["tensors"]
    assert page.count("<figure>") == len(tensors)
    assert page.count("saturates at") == 2 * sum(tensor["threshold"] is not None for tensor in tensors)
    assert [tensor["name"] for tensor in tensors if tensor["threshold"] is None] == ["logits"]


def test_a_calibrated_export_gives_the_same_bytes_from_another_folder(export, tmp_path, monkeypatch, own_cache):
    """The second one calibrates anew, in an empty cache, from another working folder."""
    for place in ("one", "two"):
        (tmp_path / place).mkdir()
        monkeypatch.chdir(tmp_path / place)
        monkeypatch.setenv("EDGELINE_CACHE", str(tmp_path / place / "cache"))
        code, _, err = export("--format", "trt-rtx", "--precision", "int8", "--out", "artifacts")
        assert code == 0
        assert "cache miss" in err
    names = [path.name for path in (tmp_path / "one/artifacts/lenet-mnist-10k.int8.trt-rtx").iterdir()]
    assert {"model.onnx", "model.rtxplan", "calibration.json", "selftest.npz", "report.html"} < set(names)
    # The plan of a quantised graph is not: TensorRT-RTX numbers the parts that it fuses.
    for name in set(names) - {"manifest.json", "model.rtxplan"}:
        first, second = (
            (tmp_path / place / "artifacts/lenet-mnist-10k.int8.trt-rtx" / name).read_bytes()
            for place in ("one", "two")
        )
        assert first == second, name


def test_targets_name_the_folder_and_the_plan(export, tmp_path):
    code, _, _ = export("--format", "trt-rtx", "--compute-capability", "12.0,8.9")
    assert code == 0
    artefact = open_artefact(tmp_path / "out" / "lenet-mnist-10k.fp32.trt-rtx@sm89-sm120")
    assert artefact.manifest.target == {"compute_capabilities": ["8.9", "12.0"]}
    head = artefact.file("model.rtxplan").read_bytes()[:HEADER_BYTES]
    assert read_plan_header(head, "plan").targets == ("8.9", "12.0")


def test_trt_without_a_gpu_leaves_the_engine_to_the_device(export, tmp_path):
    code, _, err = export("--format", "trt", "--precision", "int8")
    assert code == 0
    assert "no engine is built here (no NVIDIA GPU or no driver): on the device, edgeline build makes it" in err
    artefact = open_artefact(tmp_path / "out" / "lenet-mnist-10k.int8.trt")
    manifest = artefact.manifest
    assert manifest.build == "on-device"
    assert "model.plan" not in manifest.files
    checked = manifest.compilation["checked_with"]
    assert checked["product"] == "TensorRT-RTX"
    assert checked["plan_bytes"] > 0
    assert manifest.verification["engine"] == "onnxruntime, the same graph"


def test_trt_says_when_the_parser_was_not_asked(export, tmp_path, monkeypatch):
    missing = ProductState(None, None, "TensorRT-RTX is not installed")
    monkeypatch.setattr("edgeline_export.engines.product_state", lambda name: missing)
    code, _, err = export("--format", "trt")
    assert code == 0
    assert "not tried on TensorRT's parser: TensorRT-RTX is not installed" in err
    assert open_artefact(tmp_path / "out" / "lenet-mnist-10k.fp32.trt").manifest.compilation["checked_with"] is None


def test_require_engine_without_a_gpu(export, tmp_path):
    code, out, err = export("--format", "trt", "--require-engine")
    assert (code, out) == (3, "")
    assert "no TensorRT engine can be built here: no NVIDIA GPU or no driver; without --require-engine" in one_line(err)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--format", "trt", "--compute-capability", "8.9"], 2, "is for --format trt-rtx, not for trt"),
        (["--format", "trt-rtx", "--compute-capability", "9.0"], 2, "has no compute capability 9.0; it has 7.5, 8.0"),
        (["--format", "trt-rtx", "--compute-capability", "7.5"], 2, "FP32 GEMM is not supported"),
        (
            ["--format", "trt-rtx", "--compute-capability", "7.5"],
            2,
            "for compute capability 7.5, take fp16 or",
        ),
        (["--format", "trt-rtx", "--compute-capability", "sm89"], 2, "expected numbers like 8.9"),
        (["--format", "trt-rtx", "--compute-capability", "8.9,8.9"], 2, "names a target twice"),
        (["--format", "trt-rtx", "--batch", "8:1:64"], 2, "1 <= MIN <= OPT <= MAX"),
        (["--format", "trt-rtx", "--precision", "fp8"], 2, "unknown precision of format trt-rtx 'fp8'"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(export, tmp_path, options, code, words):
    found, out, err = export(*options)
    assert (found, out) == (code, "")
    assert words in one_line(err)
    assert not (tmp_path / "out").exists()


def test_two_halves_that_do_not_fit_are_a_missing_capability(export, tmp_path, monkeypatch):
    monkeypatch.setattr("edgeline.tensorrt.products._version", lambda module: "1.6.0.33")
    code, _, err = export("--format", "trt-rtx")
    assert code == 3
    assert "the two halves of TensorRT-RTX do not fit: bindings 1.6.0.33, library 1.7.1" in one_line(err)
    assert PRODUCTS["trt-rtx"].install in one_line(err)
    assert not (tmp_path / "out").exists()


# --- networks of one's own --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["from torch", "by hand"])
def rich_file(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("rich")
    onnx.save(rich_graph() if request.param == "from torch" else written_by_hand(), folder / "net.onnx")
    inputs = np.random.default_rng(0).standard_normal((600, 3, 16, 16)).astype(np.float32) * 2 + 1
    np.savez(folder / "samples.npz", inputs=inputs)
    return folder / "net.onnx"


@pytest.mark.parametrize("format_name", ["onnx", pytest.param("trt", marks=pytest.mark.slow), "trt-rtx"])
@pytest.mark.parametrize("precision", [pytest.param("fp16", marks=pytest.mark.slow), "int8", "int8+fp16"])
def test_a_network_of_many_operators_takes_the_same_path(export, rich_file, tmp_path, format_name, precision):
    samples = rich_file.with_name("samples.npz")
    code, out, _ = export(
        "--format", format_name, "--precision", precision, "--calibration", samples, "--samples", samples,
        "--max-drop", "0.1", subject=rich_file,
    )  # fmt: skip
    assert code == 0
    artefact = open_artefact(tmp_path / "out" / f"net.{precision}.{format_name}")
    assert artefact.manifest.precision_coverage["macs"] == {"fp16" if precision == "fp16" else "int8": 1.0}
    assert artefact.manifest.calibration["dataset"] == "samples.npz"
    assert "top-1 agreement" in out


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_a_fixed_batch_is_calibrated_and_built(export, rich_file, tmp_path, precision):
    """600 samples are no multiple of 7: the last batch is filled up."""
    model = onnx.load(rich_file)
    for value in [*model.graph.input, *model.graph.output]:
        value.type.tensor_type.shape.dim[0].Clear()
        value.type.tensor_type.shape.dim[0].dim_value = 7
    del model.graph.value_info[:]
    onnx.save(model, tmp_path / "fixed.onnx")
    samples = rich_file.with_name("samples.npz")
    code, _, _ = export(
        "--format", "trt-rtx", "--precision", precision, "--calibration", samples, "--samples", samples,
        "--batch", "7", "--max-drop", "0.1", subject=tmp_path / "fixed.onnx",
    )  # fmt: skip
    assert code == 0
    assert open_artefact(tmp_path / "out" / f"fixed.{precision}.trt-rtx").manifest.inputs[0].shape == (7, 3, 16, 16)


def test_a_graph_that_the_parser_refuses(export, tmp_path):
    made = helper.make_graph(
        [helper.make_node("Det", ["x"], ["y"], "the_determinant")], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
    )  # fmt: skip
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), tmp_path / "d.onnx")
    for format_name in ("trt", "trt-rtx"):
        code, out, err = export("--format", format_name, subject=tmp_path / "d.onnx")
        assert (code, out) == (2, "")
        assert "refuses the graph: " in one_line(err)
        assert "(node 'the_determinant', Det)" in one_line(err)
    assert not (tmp_path / "out").exists()
