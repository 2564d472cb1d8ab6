"""Whole float networks as C, against ONNX Runtime: each target that this CPU runs, gcc and clang."""

import platform
from pathlib import Path

import numpy as np
import pytest

from edgeline_export.c.targets import TARGETS
from edgeline_export.torch_source import graph_from_module
from edgeline_train.models import MODELS
from tests.export.c.harness import OPTIMISED, build, onnxruntime_outputs

NETWORKS = ["lenet", "lenet-maxpool", "lenet-linear", "lenet-relu"]


def runs_here(target):
    """Whether this CPU has what a target's first variant needs."""
    if target == "generic":
        return True
    if platform.machine() != "x86_64":
        return False
    flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    return all(
        feature.replace("avx512vnni", "avx512_vnni") in flags for feature in TARGETS[target].variants[-1].features
    )


def graph_of(name):
    model = MODELS[name]
    return graph_from_module(model.build().eval(), model.input_shape)


@pytest.mark.parametrize("cc", ["gcc", "clang"])
@pytest.mark.parametrize("target", ["generic", "x86-64-v3", "x86-64-v4"])
@pytest.mark.parametrize("name", NETWORKS)
def test_network_equals_onnxruntime(tmp_path, name, target, cc):
    if not runs_here(target):
        pytest.skip(f"this CPU does not run {target}")
    graph = graph_of(name)
    built = build(tmp_path, graph, target, cc, OPTIMISED)
    batch = np.random.default_rng(1).standard_normal((11, 1, 28, 28)).astype(np.float32)
    expected = onnxruntime_outputs(graph, batch)
    np.testing.assert_allclose(built.run(batch), expected, rtol=0, atol=1e-5 * max(1.0, np.abs(expected).max()))
