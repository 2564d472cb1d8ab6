"""The kernels of the Linux device targets under QEMU: integers bit for bit those of x86, floats within a tolerance."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings

from edgeline_export.c.targets import TARGETS
from edgeline_export.fold import folded
from edgeline_export.graph import clean_graph
from edgeline_export.quantise import quantised
from edgeline_export.torch_source import graph_from_module
from edgeline_train.data.datasets import DATASETS, load_split
from edgeline_train.models import MODELS
from tests.export.c.emulated import RUNS, built_for
from tests.export.c.harness import OPTIMISED, build, program_of
from tests.export.c.qdq import RANDOM, Qdq
from tests.export.c.suite import build_suite
from tests.export.c.test_float_networks import check as check_floats
from tests.export.c.test_float_networks import graph_of, runs_here
from tests.export.c.test_integer_exactness import EXTREMES, all_kinds, conv_numbers, one_conv, requantised
from tests.export.c.test_integers import CASES
from tests.export.c.test_random_graphs import FIXED, SEVERAL
from tests.export.c.test_random_graphs import check as check_graphs
from tests.export.test_quantise import ranges_of

pytestmark = pytest.mark.cross

VECTORS = [run for run in RUNS if run != "riscv64"]  # which is C99 alone
SCALAR = "-DEDGELINE_SCALAR"


def scalar_twin(run, folder, model):
    """The same sources for the same CPU, as C99 alone."""
    return built_for(run, folder, model, (*OPTIMISED, SCALAR), "twin")


# --- whole networks on the committed digits ---------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["lenet", "lenet-relu"])
def network(request):
    """The network in int8, its weights random; 300 of the test digits, and its logits on them with C99 alone on x86."""
    torch.manual_seed(0)
    model = MODELS[request.param]
    plain = clean_graph(folded(graph_from_module(model.build().eval(), model.input_shape)))
    return request.param, quantised(plain, ranges_of(plain, digits(64)), "integer"), digits(300)


def digits(count):
    """Of mnist-10k's test split, as the network takes them: [count, 1, 28, 28]."""
    images = np.asarray(load_split(DATASETS["mnist-10k"], "test").images[:count])
    return ((images.reshape(count, 1, 28, 28).astype(np.float32) / 255 - 0.1307) / 0.3081).astype(np.float32)


@pytest.fixture(scope="module")
def logits(network, tmp_path_factory):
    name, model, batch = network
    return build(tmp_path_factory.mktemp(name), model, "generic", "gcc", OPTIMISED).run(batch)


@pytest.mark.parametrize("run", RUNS)
def test_logits_of_digits_are_the_same_bits(tmp_path, network, logits, run):
    _, model, batch = network
    assert len(np.unique(logits, axis=0)) > 250  # digits are told apart, though the weights are random
    assert built_for(run, tmp_path, model).run(batch).tobytes() == logits.tobytes()


@pytest.mark.parametrize("index", range(len(TARGETS["x86-64"].variants)))
def test_those_of_x86_are_the_same_bits_as_well(tmp_path, network, logits, index):
    variant = TARGETS["x86-64"].variants[index]
    if not runs_here("x86-64-v4" if index > 1 else "x86-64-v3" if index else "generic"):
        pytest.skip(f"this CPU does not run {variant.isa}")
    _, model, batch = network
    found = build(tmp_path, model, "x86-64", "gcc", OPTIMISED, isa=variant.flags).run(batch)
    assert found.tobytes() == logits.tobytes()


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("name", ["lenet", "lenet-relu", "lenet5"])
def test_float_networks(tmp_path, name, run):
    check_floats(name, built_for(run, tmp_path, graph_of(name)))


@pytest.mark.parametrize("run", VECTORS)
@pytest.mark.parametrize("name", ["lenet", "lenet-relu"])
def test_float_vectors_and_their_scalar_twin(tmp_path, name, run):
    """Sums in another order: a few units in the last place of numbers near 1."""
    model, batch = graph_of(name), digits(20)
    found = built_for(run, tmp_path, model).run(batch)
    np.testing.assert_allclose(found, scalar_twin(run, tmp_path, model).run(batch), rtol=0, atol=3e-6)


@pytest.mark.parametrize("target", ["aarch64", "armv7"])
@pytest.mark.parametrize("flags", [(), ("-march=x86-64-v3",), ("-march=x86-64-v4",)])
def test_sources_for_arm_compute_the_same_on_x86(tmp_path, network, logits, target, flags):
    """As C99 alone: vectors of x86 would read past a block of channels."""
    if flags and not runs_here(flags[0].removeprefix("-march=")):
        pytest.skip(f"this CPU does not run {flags[0]}")
    _, model, batch = network
    assert build(tmp_path, model, target, "gcc", ("-O1",), isa=flags).run(batch).tobytes() == logits.tobytes()
    check_floats("lenet-relu", build(tmp_path, graph_of("lenet-relu"), target, "gcc", ("-O1",), "plain", isa=flags))


# --- every integer kernel ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def patterns():
    """By name: each pattern of test_integers.py and random networks, with a batch."""
    found = {}
    for i, (make, _) in enumerate(CASES.values()):
        g, y = make()
        found[f"case{i}"] = (g.model(y), g.batch_of())
    for i in range(24):
        found[f"random{i}"] = random_network(np.random.default_rng(i))
    g, y = all_kinds()
    return {**found, "kinds": (g.model(y), g.batch_of(11))}


def random_network(random):
    """Conv, perhaps a table and a pooling, Conv, Gemm: sizes, strides and padding at random."""
    channels, height, width = random.choice([1, 1, 2, 5]), random.integers(9, 26), random.integers(9, 30)
    g = Qdq((int(channels), int(height), int(width)))
    y, scale, given = g.quantised("x", 1 / 32, int(random.integers(0, 256))), 1 / 32, int(channels)
    for layer in range(int(random.integers(1, 3))):
        out, kernel = int(random.integers(1, 20)), [int(n) for n in random.integers(1, 6, 2)]
        pads, strides = [int(n) for n in random.integers(0, 3, 4)], [int(n) for n in random.integers(1, 3, 2)]
        y = g.conv(f"c{layer}", y, scale, out, given, tuple(kernel), pads=pads, strides=strides)
        y, scale, given = g.quantised(y, 1 / 40, int(random.integers(60, 200))), 1 / 40, out
        if random.random() < 0.4:
            y, scale = g.quantised(g.node("Sigmoid", [y], f"s{layer}"), 1 / 255, 0), 1 / 255
        if layer == 0 and random.random() < 0.7:
            kind = str(random.choice(["MaxPool", "AveragePool"]))
            y = g.node(kind, [y], "p", kernel_shape=[2, 2], strides=[2, 2])
            scale = scale if kind == "MaxPool" else scale * 0.83
            y = g.quantised(y, scale, 0 if scale < 1 / 200 else 128)
    return g.model(y), g.batch_of()


@pytest.fixture(scope="module")
def expected(patterns, tmp_path_factory):
    """What C99 alone computes on x86, by name: its bits."""
    programs = {name: program_of(model, "generic", name) for name, (model, _) in patterns.items()}
    built = build_suite(tmp_path_factory.mktemp("generic"), programs, "generic", "gcc", ("-O1",))
    return {name: built[name].run(patterns[name][1]) for name in patterns}


def suite_of(run, folder, patterns, flags):
    one = RUNS[run]
    programs = {name: program_of(model, one.target, name) for name, (model, _) in patterns.items()}
    flags = (*flags, "-static")
    return build_suite(folder, programs, one.target, one.cc, flags, isa=one.isa, emulator=one.emulator)


@pytest.mark.parametrize("run", RUNS)
def test_every_pattern_and_random_networks_are_the_same_bits(tmp_path, patterns, expected, run):
    built = suite_of(run, tmp_path, patterns, ("-O2",))
    wrong = [name for name in patterns if built[name].run(patterns[name][1]).tobytes() != expected[name].tobytes()]
    assert wrong == []


@pytest.mark.parametrize("run", ["neon-i8mm", "armv7"])
def test_the_scalar_twins_are_the_same_bits(tmp_path, patterns, expected, run):
    built = suite_of(run, tmp_path, patterns, ("-O1", SCALAR))
    wrong = [name for name in patterns if built[name].run(patterns[name][1]).tobytes() != expected[name].tobytes()]
    assert wrong == []


@pytest.mark.slow
@pytest.mark.parametrize("run", VECTORS)
def test_no_undefined_behaviour(tmp_path, patterns, run):
    """Without the sanitizer's runtime, which qemu does not run: the first one is a trap."""
    flags = ("-O1", "-fsanitize=undefined", "-fsanitize-undefined-trap-on-error", "-DEDGELINE_UNROLL=")
    built = suite_of(run, tmp_path, patterns, flags)
    for name, (_, batch) in patterns.items():
        built[name].run(batch)


@pytest.mark.parametrize("run", VECTORS)
@pytest.mark.parametrize("weights", EXTREMES)
def test_conv_of_extremes_is_exact(tmp_path, weights, run):
    """Against whole numbers: -128 * -128 twice leaves 16 bits; 6 channels in the lanes, and pixels with 1."""
    for channels, kernel in ((6, (3, 4)), (1, (5, 5))):
        weight = EXTREMES[weights]((6, channels, *kernel)).astype(np.int8)
        bias = RANDOM.integers(-(2**28), 2**28, 6).astype(np.int32)
        bias[:2] = 0
        scale = RANDOM.uniform(1, 2, 6).astype(np.float32) * np.float32(1e-5)
        x = RANDOM.integers(0, 256, (4, channels, 9, 9)).astype(np.uint8)
        x[1], x[2] = 255, 0
        pads = [1, 2, 0, 3]
        model = one_conv(weight, bias, (np.float32(0.5), scale, np.float32(0.01)), (128, 131), pads)
        sums = conv_numbers(x, weight, bias, pads, (1, 1), 128)
        found = built_for(run, tmp_path, model, ("-O2",)).run(x)
        assert np.array_equal(found, requantised(sums, np.float32(0.5) * scale / np.float32(0.01), 131))


@pytest.mark.parametrize("run", VECTORS)
def test_halves_are_rounded_to_even_and_nan_is_the_lowest(tmp_path, run):
    """x / 2 for x from 0 to 255, and QuantizeLinear of halves."""
    g = Qdq((256,))
    x = g.quantised("x", 2.0, 100)
    w = g.integers("w", np.eye(256, dtype=np.int8), np.full(256, 0.5, np.float32))
    g.quantised(g.node("Gemm", [x, w], "c", transB=1), 2.0, 77)
    g.nodes.pop()
    whole = np.arange(256, dtype=np.float32) - 100
    batch = np.stack([2 * whole, 2 * whole + 1, np.full(256, np.inf), np.full(256, -np.inf), np.full(256, np.nan)])
    found = built_for(run, tmp_path, g.model("c_q", "uint8"), ("-O2",)).run(batch.astype(np.float32))
    given = np.clip(np.rint(np.stack([whole, whole + np.float32(0.5)])), -100, 155)
    assert np.array_equal(found[:2], np.clip(np.rint(given / 2) + 77, 0, 255))
    assert found[2:, 0].tolist() == [np.rint(155 / 2) + 77, 77 - 50, 77 - 50]


@pytest.mark.parametrize("run", ["neon", "armv7", "riscv64"])
def test_random_float_graphs_equal_onnxruntime(run):
    one = RUNS[run]

    @settings(FIXED, max_examples=2)
    @given(SEVERAL)
    def check(models):
        check_graphs(models, one.target, one.cc, ("-O2", "-static"), isa=one.isa, emulator=one.emulator)

    check()
