"""The format aot-inductor: what is refused in a moment, and LeNet's packages, whose compilation takes a minute."""

import io
import json
import sys
import zipfile
from importlib.util import find_spec

import numpy as np
import pytest

import edgeline
import edgeline_export.cli
from edgeline.errors import GateError
from edgeline_export.coverage import Coverage, NodeCoverage
from edgeline_export.formats import packages
from edgeline_export.peers import aot_inductor
from edgeline_train.data import DATASETS, load_split
from tests.conftest import one_line

pytestmark = pytest.mark.skipif(find_spec("torchao") is None, reason="torchao is not installed: edgeline[peers]")
MAIN = edgeline_export.cli.main


def test_without_torchao_it_says_what_to_install(tmp_path, command, monkeypatch):
    monkeypatch.setattr(packages, "find_spec", lambda name: None if name == "torchao" else sys)
    code, _, err = command(MAIN, "lenet", "--format", "aot-inductor", "--out", tmp_path)
    assert code == 3
    assert "torchao not installed: pip install 'edgeline[peers]'" in one_line(err)


def test_without_a_compiler_it_names_it(tmp_path, command, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    code, _, err = command(MAIN, "lenet", "--format", "aot-inductor", "--out", tmp_path)
    assert code == 3
    assert "no C++ compiler no-such-compiler: apt install g++" in one_line(err)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_precision_that_it_does_not_have(command, precision):
    code, _, err = command(MAIN, "lenet", "--format", "aot-inductor", "--precision", precision)
    assert code == 2
    assert f"precision of format aot-inductor '{precision}'" in one_line(err)


def test_an_onnx_file_is_no_torch_network(exported, tmp_path, command):
    code, _, err = command(MAIN, exported / "model.onnx", "--format", "aot-inductor", "--out", tmp_path)
    assert code == 2
    assert "compiles torch networks" in one_line(err)
    assert "take --format onnx, openvino or c" in one_line(err)


def _package(code):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("model/data/wrapper.cpp", code)
    return buffer.getvalue()


CONV = "aoti_torch_cpu__qconv_pointwise_tensor(a, b);\n"
LINEAR = "aoti_torch_cpu__qlinear_pointwise_tensor(a, b);\n"


@pytest.mark.parametrize(
    ("code", "operators", "words"),
    [
        (CONV + LINEAR * 2, ("Conv", "Gemm", "MatMul"), ""),
        (CONV + LINEAR, ("Conv", "Gemm", "MatMul"), "1 integer kernels \\(qlinear\\) of 2"),
        ("aoti_torch_cpu_convolution(a);", ("Conv",), "0 integer kernels \\(qconv\\) of 1"),
        (CONV, ("Conv", "ConvTranspose"), "50.0% of the multiply-accumulates are in int8"),
    ],
)
def test_integer_kernels_are_counted_in_the_code(code, operators, words):
    nodes = tuple(NodeCoverage(str(i), operator, "int8", 10, 10) for i, operator in enumerate(operators))
    graph = Coverage("graph", {"int8": 1.0}, {"int8": 1.0}, nodes)
    if words:
        with pytest.raises(GateError, match=words):
            aot_inductor._check_integer(_package(code), graph)
    else:
        assert aot_inductor._check_integer(_package(code), graph).to_record()["macs"] == {"int8": 1.0}


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_lenets_packages(weights_folder, tmp_path, precision):
    argv = ["lenet", "--weights", str(weights_folder), "--format", "aot-inductor", "--precision", precision]
    assert MAIN([*argv, "--batch", "1,8", "--out", str(tmp_path)]) == 0
    folder = tmp_path / f"lenet-mnist-10k.{precision}.aot-inductor"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert {"model-batch1.pt2", "model-batch8.pt2", "model.onnx"} <= set(manifest["files"])
    assert manifest["precision_coverage"]["macs"] == {precision: 1.0}
    assert manifest["precision_coverage"]["source"] == ("engine" if precision == "int8" else "graph")
    assert manifest["compilation"]["batches"] == [1, 8]
    assert manifest["verification"]["engine"] == "aot-inductor"
    assert manifest["verification"]["top1_agreement"] > 0.97
    quantiser = manifest["compilation"]["quantiser"]
    assert quantiser is None if precision == "fp32" else quantiser["samples"] == 512
    assert "instructions" in manifest["target"]
    split = load_split(DATASETS["mnist-10k"], "test", None)
    with edgeline.load(folder) as session:
        assert np.mean(session.classify(split.images[:300]) == split.labels[:300]) > 0.8
