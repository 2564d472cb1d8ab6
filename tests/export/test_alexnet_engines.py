"""AlexNet in every precision, with the weights it is born with: what of it does not depend on training."""

import numpy as np
import pytest
import torch

from edgeline.manifest import BatchRange
from edgeline.tensorrt.builder import BuildSettings, build_engine
from edgeline.tensorrt.products import load_product, product_state
from edgeline_export.calibration import calibrate
from edgeline_export.calibration_data import calibration_data
from edgeline_export.coverage import check_precision, coverage_of
from edgeline_export.fold import folded
from edgeline_export.graph import inputs_of
from edgeline_export.half import half
from edgeline_export.quantise import quantised
from edgeline_export.runner import GraphRunner
from edgeline_export.torch_source import graph_from_module
from edgeline_train.data import DATASETS, preprocessing_for
from edgeline_train.models import MODELS

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def graphs():
    """The float32 graph, and those of every precision, from 32 digits."""
    torch.manual_seed(0)
    model = MODELS["alexnet"]
    source = graph_from_module(model.build(), model.input_shape)
    plain = folded(source)
    preprocessing = preprocessing_for(DATASETS["mnist-10k"], model.input_shape)
    data = calibration_data("mnist-10k", 32, inputs_of(source)[0], preprocessing, None)
    ranges = calibrate(plain, data, "minmax").activation_ranges()
    fused = quantised(plain, ranges, "fused")
    made = {"fp32": source, "fp16": half(source), "int8": fused, "int8+fp16": half(fused)}
    return made, quantised(plain, ranges, "integer"), data.network_input(data.batches()[0])


@pytest.mark.skipif(product_state("trt-rtx").module is None, reason=f"TensorRT-RTX: {product_state('trt-rtx').why}")
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8", "int8+fp16"])
def test_an_engine_in_every_precision(graphs, precision):
    graph = graphs[0][precision]
    coverage = coverage_of(graph)
    check_precision(coverage, precision)
    if "int8" in precision:
        assert coverage.macs["int8"] >= 0.99
        assert coverage.weights["int8"] >= 0.99
    built = build_engine(
        load_product("trt-rtx"), graph.SerializeToString(), BuildSettings(precision, BatchRange(1, 8, 64))
    )
    bytes_per_weight = {"fp32": 4, "fp16": 2}.get(precision, 1)
    assert built.strongly_typed
    assert 46.7e6 * bytes_per_weight < len(built.plan) < 46.8e6 * bytes_per_weight * 1.05


def test_the_integer_layout_stays_near_its_source(graphs):
    made, integer, batch = graphs
    assert coverage_of(integer).macs == {"int8": 1.0}
    expected, found = GraphRunner(made["fp32"]).run(batch), GraphRunner(integer).run(batch)
    assert np.abs(found - expected).max() < 0.1 * np.abs(expected).max()
