"""Whole networks in int8, as quantise.py writes them, against ONNX Runtime; and what stays in float."""

import numpy as np
import onnx
import pytest
import torch

from edgeline_export.c.lower import lower
from edgeline_export.c.passes import prepared
from edgeline_export.c.read import network_from_onnx
from edgeline_export.c.targets import target_from_name
from edgeline_export.fold import folded
from edgeline_export.graph import clean_graph
from edgeline_export.quantise import quantised
from edgeline_export.torch_source import graph_from_module
from edgeline_train.models import MODELS
from tests.export.c.harness import OPTIMISED, build
from tests.export.c.qdq import RANDOM, Qdq, outputs_of
from tests.export.c.test_float_networks import runs_here
from tests.export.test_quantise import ranges_of

NETWORKS = ["lenet", "lenet-maxpool", "lenet-linear", "lenet-relu"]


@pytest.fixture(scope="module", params=NETWORKS)
def quantised_network(request):
    """The network, untrained, in int8; 19 images, which two blocks of rows and a rest take; its output in float."""
    torch.manual_seed(0)
    model = MODELS[request.param]
    plain = clean_graph(folded(graph_from_module(model.build().eval(), model.input_shape)))
    batch = np.random.default_rng(0).standard_normal((19, *model.input_shape)).astype(np.float32)
    return quantised(plain, ranges_of(plain, batch), "integer"), batch, outputs_of(plain, batch, optimised=False)


@pytest.mark.parametrize("target", ["generic", pytest.param("x86-64-v3", marks=pytest.mark.slow), "x86-64-v4"])
def test_network_equals_onnxruntime(tmp_path, quantised_network, target):
    if not runs_here(target):
        pytest.skip(f"this CPU does not run {target}")
    model, batch, floats = quantised_network
    built = build(tmp_path, model, target, "gcc", OPTIMISED)
    found, expected = built.run(batch), outputs_of(model, batch, optimised=True)
    # Nearly all are the same bits. An average that falls on a tie moves what follows by one quantum, and the logits of
    # that image by less than the quantisation itself does.
    assert np.abs(found - expected).max() <= np.abs(expected - floats).max()
    assert (found == expected).all(axis=1).mean() >= 0.8
    assert (found.argmax(1) == expected.argmax(1)).mean() >= 0.9


def test_lenet_is_integers_from_end_to_end(quantised_network):
    model, _, _ = quantised_network
    network = prepared(network_from_onnx(model, "net"))
    assert {o.operator for o in network.operations} == {"QuantizeLinear", "QLinearConv", "Reshape", "QLinearMatMul"}
    assert network.notes == ()
    program = lower(network, target_from_name("x86-64-v4"))
    carried = {node for step in program.steps for node in step.nodes}
    # What the Reshape carried is in no step: it moves nothing.
    assert {n.name for n in model.graph.node if n.op_type in ("Conv", "Gemm", "Sigmoid", "AveragePool")} <= carried


def test_what_fits_no_pattern_computes_in_float_and_is_named(tmp_path):
    """Conv -> Sigmoid without Q between: the Conv's sums leave as floats, the Sigmoid is float."""
    g = Qdq((3, 8, 8))
    y = g.node("Sigmoid", [g.conv("c", g.quantised("x", 1 / 32, 128), 1 / 32, 5, 3, (3, 3))], "s")
    model = g.model(g.quantised(y, 1 / 255, 0))
    network = prepared(network_from_onnx(model, "net"))
    assert [o.operator for o in network.operations] == [
        "QuantizeLinear",
        "QLinearConv",
        "Sigmoid",
        "QuantizeLinear",
        "DequantizeLinear",
    ]
    assert [note.split("'")[1] for note in network.notes] == ["node_s"]
    batch = g.batch_of()
    built = build(tmp_path, model)
    assert built.program.notes == network.notes
    assert np.abs(built.run(batch) - outputs_of(model, batch, optimised=False)).max() <= 1.001 / 255


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
def test_bytes_enter_and_leave(tmp_path, dtype):
    """DQ -> Conv -> Q with bytes of the caller: int8 ones are converted on the way."""
    g, zero = Qdq((6, 7, 7)), 128 if dtype is np.uint8 else 0
    g.constant("x_s", np.float32(1 / 32)), g.constant("x_z", dtype(zero))
    x = g.node("DequantizeLinear", ["x", "x_s", "x_z"], "x_dq")
    g.quantised(g.conv("c", x, 1 / 32, 5, 6, (3, 3), pads=[1, 1, 1, 1]), 1 / 50, zero, dtype)
    g.nodes.pop()
    model = g.model("c_q", np.dtype(dtype).name, np.dtype(dtype).name)
    limits = np.iinfo(dtype)
    batch = RANDOM.integers(limits.min, limits.max + 1, (3, 6, 7, 7)).astype(dtype)
    found = build(tmp_path, model).run(batch).astype(int)
    assert np.abs(found - outputs_of(model, batch, optimised=False)).max() <= 1


def test_a_scale_per_channel_of_an_activation_is_refused():
    g = Qdq((3, 8, 8))
    g.constant("s", np.ones(3, np.float32)), g.constant("z", np.zeros(3, np.uint8))
    g.node("QuantizeLinear", ["x", "s", "z"], "q", axis=1)
    model = g.model(g.node("DequantizeLinear", ["q", "s", "z"], "dq", axis=1))
    with pytest.raises(Exception, match="QuantizeLinear 'node_q': a scale for each channel of an activation"):
        network_from_onnx(onnx.shape_inference.infer_shapes(model), "net")
