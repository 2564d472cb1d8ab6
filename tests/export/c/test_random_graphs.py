"""Random graphs as C, against ONNX Runtime; hypothesis finds a small one where they differ."""

import tempfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from tests.export.c.graphs import graphs
from tests.export.c.harness import OPTIMISED, onnxruntime_outputs, program_of, runs_here, sanitizers
from tests.export.c.suite import build_suite

# The same graphs in every run.
FIXED = settings(
    derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck), print_blob=False
)
SEVERAL = st.lists(graphs(), min_size=6, max_size=16)


def check(models, target, cc, flags, **emulated):
    """Each graph computes what ONNX Runtime computes, one sample, three, and more than a block of them."""
    programs = {f"net{i}": program_of(model, target, f"net{i}") for i, model in enumerate(models)}
    with tempfile.TemporaryDirectory() as folder:
        built = build_suite(Path(folder), programs, target, cc, flags, **emulated)
        for model, network in zip(models, built.values(), strict=True):
            first = model.graph.input[0].type.tensor_type.shape.dim
            shape = [dimension.dim_value for dimension in first[1:]]
            for n in (1, 3, 9) if first[0].HasField("dim_param") else (first[0].dim_value,):
                batch = np.random.default_rng(n).standard_normal((n, *shape)).astype(np.float32)
                expected = onnxruntime_outputs(model, batch)
                found = network.run(batch)
                note(described(model))
                assert found.shape == expected.shape
                np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5 * max(1.0, np.abs(expected).max()))


def described(model):
    lines = [
        f"{node.op_type} {list(node.input)} -> {list(node.output)} "
        + str({a.name: onnx.helper.get_attribute_value(a) for a in node.attribute})
        for node in model.graph.node
    ]
    shapes = {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    return "\n".join([str(model.graph.input[0].type.tensor_type.shape), *lines, str(shapes)])


def widest():
    """The widest vectors that this CPU has."""
    target = next((name for name in ("x86-64-v4", "x86-64-v3") if runs_here(name)), None)
    if target is None:
        pytest.skip("this CPU has neither AVX-512 nor AVX2")
    return target


@settings(FIXED, max_examples=5)
@given(SEVERAL)
def test_generic_equals_onnxruntime(models):
    check(models, "generic", "gcc", ("-O1",))


@settings(FIXED, max_examples=3)
@given(SEVERAL)
def test_vectors_equal_onnxruntime(models):
    check(models, widest(), "clang", ("-O1",))


@pytest.mark.slow
@pytest.mark.parametrize(
    # A compiler, a level and a width in each: all together take an hour.
    ("target", "cc", "level"),
    [
        ("generic", "gcc", "-O0"),
        ("generic", "clang", "-O1"),
        ("x86-64-v3", "clang", "-O1"),
        ("x86-64-v4", "gcc", "-O3"),
    ],
)
def test_no_wrong_address_and_no_undefined_behaviour(target, cc, level):
    if not runs_here(target):
        pytest.skip(f"this CPU does not run {target}")
    flags = (*sanitizers(cc), level)

    @settings(FIXED, max_examples=3)
    @given(SEVERAL)
    def run(models):
        check(models, target, cc, flags)

    run()


@pytest.mark.slow
@pytest.mark.parametrize("cc", ["gcc", "clang"])
@pytest.mark.parametrize("target", ["generic", "x86-64-v3", "x86-64-v4"])
def test_many_graphs_as_they_are_shipped(target, cc):
    if not runs_here(target):
        pytest.skip(f"this CPU does not run {target}")

    @settings(FIXED, max_examples=4)
    @given(SEVERAL)
    def run(models):
        check(models, target, cc, OPTIMISED)

    run()
