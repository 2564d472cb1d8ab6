"""TensorRT's profiler on the double: layer names to nodes through the inspector, formats to their neighbours."""

import json

import onnx
import pytest

from edgeline.backends.tensorrt import TensorRtSession
from edgeline.manifest import BatchRange
from edgeline_bench.layers.graph import read_graph
from edgeline_bench.layers.session_profile import profile_session
from edgeline_bench.layers.tensorrt_profile import kernels_from_layers, nodes_of_layers
from tests.doubles import Faults, gpu_double
from tests.doubles.artefacts import images, small_graph, write_artefact

NAMES = ("conv", "relu", "flat", "gemm")


def named_graph():
    model = onnx.load_from_string(small_graph())
    for node, name in zip(model.graph.node, NAMES, strict=True):
        node.name = name
    return model


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGELINE_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("flavour", ["trt10", "trt11", "rtx"])
def test_each_layer_has_its_nodes_and_its_share(flavour, tmp_path):
    """The double's layers take 1, 2, 3, 4 hundredths of a millisecond, and the change of format one."""
    format_name = "trt-rtx" if flavour == "rtx" else "trt"
    model = named_graph()
    with gpu_double(flavour):
        artefact = write_artefact(
            tmp_path / "small", format_name, graph=model.SerializeToString(), batch=BatchRange(1, 4, 8)
        )
        with TensorRtSession(artefact) as session:
            profile = profile_session(session, images(3), 0.05)
    assert (profile.method, profile.unmatched, profile.uncovered) == ("TensorRT IProfiler", (), ())
    total = 0.11e-3 * profile.scale
    found = {group.nodes: group.time_s / total for group in profile.groups}
    assert found == {
        ("conv",): pytest.approx(2 / 11),  # with its change of format
        ("relu",): pytest.approx(2 / 11),
        ("flat", "gemm"): pytest.approx(7 / 11),
    }
    assert len(profile.groups[0].kernels) == 2


def test_a_layer_that_melts_several_nodes(tmp_path):
    model = named_graph()
    with gpu_double("trt10", faults=Faults(melted=True)):
        artefact = write_artefact(tmp_path / "small", "trt", graph=model.SerializeToString())
        with TensorRtSession(artefact) as session:
            profile = profile_session(session, images(2), 0.05)
    (group,) = profile.groups
    assert group.nodes == NAMES
    assert set(group.nodes) == read_graph(model, 2).names


def test_layers_as_the_inspector_describes_them():
    description = json.dumps(
        {
            "Layers": [
                {"Name": "a + b", "Metadata": "[ONNX Layer: conv]\x1e[ONNX Layer: relu]\x1e[ONNX Layer: conv]"},
                {"Name": "odd", "Metadata": "[ONNX Layer: from elsewhere]"},
                "a name alone, from an engine without details",
            ]
        }
    )
    layers = nodes_of_layers(description, frozenset(NAMES))
    assert layers == {"a + b": ("conv", "relu"), "odd": ()}
    times_s = {"Reformatting CopyNode 0": 1.0, "a + b": 2.0, "odd": 3.0, "Reformatting CopyNode 1": 4.0}
    kernels = kernels_from_layers(times_s, layers)
    assert [(kernel.nodes, kernel.beside) for kernel in kernels] == [
        ((), 1), (("conv", "relu"), None), ((), None), ((), 1),
    ]  # fmt: skip
