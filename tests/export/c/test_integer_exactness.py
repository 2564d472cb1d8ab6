"""Integer C by itself: against whole numbers computed here, and bit for bit alike wherever it is compiled."""

import subprocess
from pathlib import Path

import numpy as np
import pytest

from edgeline_export.c.operators import OPERATORS
from edgeline_export.c.passes import prepared
from edgeline_export.c.read import network_from_onnx
from edgeline_export.c.targets import TARGETS
from tests.export.c.harness import OPTIMISED, SANITIZERS, build, compiler
from tests.export.c.qdq import RANDOM, Qdq, outputs_of
from tests.export.c.test_float_networks import runs_here

# Instruction sets by name: the target, its variant's flags, and the target that says whether this CPU runs it.
ISAS = {
    "generic": ("generic", (), "generic"),
    "sse2": ("x86-64", (), "generic"),
    "v3": ("x86-64-v3", ("-march=x86-64-v3",), "x86-64-v3"),
    "v4": ("x86-64-v4", ("-march=x86-64-v4",), "x86-64-v4"),
    "vnni": ("x86-64-v4", TARGETS["x86-64-v4"].variants[-1].flags, "x86-64-v4"),
    # The microcontrollers' kernels, as C99 makes them; test_cortex_m.py has them with their own instructions.
    "pairs": ("cortex-m4", (), "generic"),
    "pairs, fixed point": ("cortex-m0plus", ("-DEDGELINE_FIXED_POINT",), "generic"),
    "vectors": ("cortex-m55", (), "generic"),
}


def conv_numbers(x, weight, bias, pads, strides, zero):
    """Sums of a convolution as int64: x [n, c, h, w] uint8, weight [m, c, r, s], pads top, left, bottom, right."""
    top, left, bottom, right = pads
    wide = np.pad(x.astype(np.int64) - zero, ((0, 0), (0, 0), (top, bottom), (left, right)))
    windows = np.lib.stride_tricks.sliding_window_view(wide, weight.shape[2:], (2, 3))[
        :, :, :: strides[0], :: strides[1]
    ]
    return np.einsum("nchwrs,mcrs->nmhw", windows, weight.astype(np.int64)) + bias.astype(np.int64)[:, None, None]


def requantised(sums, factor, zero, low=0, high=255):
    """float32 product, rounded half to even: numpy has no FMA."""
    product = sums.astype(np.float32) * np.float32(factor).reshape(-1, *[1] * (sums.ndim - 2))
    return np.clip(np.rint(product).astype(np.int64) + zero, low, high)


def one_conv(weight, bias, scales, zeros, pads, strides=(1, 1), then=None):
    """uint8 [n, c, 9, 9] as the graph's input, to uint8: nothing but integers."""
    g = Qdq((weight.shape[1], 9, 9))
    g.constant("x_s", np.float32(scales[0])), g.constant("x_z", np.uint8(zeros[0]))
    x = g.node("DequantizeLinear", ["x", "x_s", "x_z"], "x_dq")
    w = g.integers("w", weight, np.asarray(scales[1]))
    b = g.integers("b", bias, np.asarray(scales[1] * np.float32(scales[0])))
    y = g.node("Conv", [x, w, b], "c", pads=pads, strides=strides)
    if then:
        y = g.node(then, [y], "a")
    g.quantised(y, scales[2], zeros[1])
    g.nodes.pop()
    return g.model(f"{y}_q", "uint8", "uint8")


EXTREMES = {
    "random": lambda shape: RANDOM.integers(-127, 128, shape),
    "all -127": lambda shape: np.full(shape, -127),
    "all 127": lambda shape: np.full(shape, 127),
    "-128, 127 in turn": lambda shape: np.where(np.arange(np.prod(shape)).reshape(shape) % 2, 127, -128),
}


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("weights", EXTREMES)
@pytest.mark.parametrize("channels", [1, 6])
def test_conv_of_extremes_is_exact(tmp_path, weights, isa, channels):
    """255 x -127 and 255 x -128 in every place: 16-bit sums of pairs would saturate."""
    target, flags, cpu = ISAS[isa]
    if not runs_here(cpu):
        pytest.skip(f"this CPU does not run {cpu}")
    weight = EXTREMES[weights]((5, channels, 3, 4)).astype(np.int8)
    bias = RANDOM.integers(-(2**28), 2**28, 5).astype(np.int32)
    bias[:2] = 0
    scale = RANDOM.uniform(1, 2, 5).astype(np.float32) * np.float32(1e-5)
    scales = (np.float32(0.5), scale, np.float32(0.01))
    pads, strides = [1, 2, 0, 3], [2, 1]
    x = RANDOM.integers(0, 256, (4, channels, 9, 9)).astype(np.uint8)
    x[1], x[2] = 255, 0
    for zeros in ((0, 3), (128, 131)):
        model = one_conv(weight, bias, scales, zeros, pads, strides)
        found = build(tmp_path, model, target, isa=flags).run(x)
        sums = conv_numbers(x, weight, bias, pads, strides, zeros[0])
        assert np.abs(sums).max() < 2**31
        assert np.array_equal(found, requantised(sums, scales[0] * scale / scales[2], zeros[1]))


@pytest.mark.parametrize("target", ["generic", "x86-64-v3", "x86-64-v4"])
def test_halves_are_rounded_to_even(tmp_path, target):
    """x / 2 for x from 0 to 255, and QuantizeLinear of halves."""
    if not runs_here(target):
        pytest.skip(f"this CPU does not run {target}")
    g = Qdq((256,))
    x = g.quantised("x", 2.0, 100)
    w = g.integers("w", np.eye(256, dtype=np.int8), np.full(256, 0.5, np.float32))
    g.quantised(g.node("Gemm", [x, w], "c", transB=1), 2.0, 77)
    g.nodes.pop()
    whole = np.arange(256, dtype=np.float32) - 100
    batch = np.stack([2 * whole, 2 * whole + 1, np.full(256, np.inf), np.full(256, -np.inf), np.full(256, np.nan)])
    found = build(tmp_path, g.model("c_q", "uint8"), target).run(batch.astype(np.float32))
    given = np.clip(np.rint(np.stack([whole, whole + np.float32(0.5)])), -100, 155)
    expected = np.clip(np.rint(given / 2) + 77, 0, 255)
    assert np.array_equal(found[:2], expected)
    assert found[2:, 0].tolist() == [np.rint(155 / 2) + 77, 77 - 50, 77 - 50]  # saturated; NaN is the lowest


def test_sums_that_could_leave_int32_stay_in_float():
    weight, bias = np.full((2, 6, 3, 3), 127, np.int8), np.full(2, 2**31 - 200_000, np.int32)
    model = one_conv(weight, bias, (np.float32(1), np.full(2, 1e-5, np.float32), np.float32(1)), (0, 0), [0] * 4)
    network = prepared(network_from_onnx(model, "net"))
    assert "QLinearConv" not in [o.operator for o in network.operations]
    assert network.notes == (
        "1 operation between the integer layers computes in float32, for want of integers on both sides: Conv 'node_c'",
    )


def all_kinds():
    """float32 [n, 1, 20, 20] -> [n, 10]: every integer kernel that the reader knows; one sigmoid stays in float."""
    g = Qdq((1, 20, 20))
    y = g.quantised(g.conv("c1", g.quantised("x", 1 / 40, 128), 1 / 40, 6, 1, (5, 5), pads=[2, 2, 2, 2]), 1 / 30, 128)
    y = g.quantised(g.node("Sigmoid", [y], "s1"), 1 / 255, 0)
    y = g.quantised(g.node("AveragePool", [y], "p1", kernel_shape=[2, 2], strides=[2, 2]), 1 / 260, 0)
    y = g.quantised(g.conv("c2", y, 1 / 260, 21, 6, (3, 3), pads=[1, 0, 1, 2]), 1 / 90, 117)
    y = g.quantised(g.node("Tanh", [y], "t2"), 1 / 127, 128)
    y = g.quantised(g.node("MaxPool", [y], "p2", kernel_shape=[3, 3], strides=[1, 1], pads=[1, 1, 1, 1]), 1 / 127, 128)
    y = g.quantised(g.conv("c3", y, 1 / 127, 21, 1, (3, 3), group=21, pads=[1, 1, 1, 1]), 1 / 100, 128)
    y = g.quantised(
        g.node("AveragePool", [y], "p3", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 0, 1]), 1 / 170, 120
    )
    y = g.node("Relu", [g.conv("c4", y, 1 / 170, 34, 21, (2, 2))], "r4")
    y = g.quantised(
        g.node("MaxPool", [g.quantised(y, 1 / 100, 0)], "p4", kernel_shape=[2, 2], strides=[2, 2]), 1 / 100, 0
    )
    size = 34 * 2 * 2
    if {"Add", "Concat", "Mul"} <= set(OPERATORS):
        a = g.quantised(g.conv("c5", y, 1 / 100, 34, 34, (3, 3), pads=[1, 1, 1, 1]), 1 / 80, 128)
        y = g.quantised(g.node("Add", [a, y], "a5"), 1 / 60, 100)
        b = g.quantised(g.node("Mul", [y, y], "m5"), 1 / 30, 90)
        y = g.quantised(g.node("Concat", [y, b], "j5", axis=1), 1 / 60, 100)
        size *= 2
    y = g.node("Flatten", [y], "f")
    y = g.quantised(g.gemm("d1", y, 1 / 60 if size > 136 else 1 / 100, size, 50), 1 / 70, 128)
    y = g.quantised(g.node("Sigmoid", [y], "s6"), 1 / 255, 0)
    return g, g.gemm("d2", y, 1 / 255, 50, 10)


@pytest.fixture(scope="module")
def kinds():
    g, y = all_kinds()
    model, batch = g.model(y), g.batch_of(11)
    return model, batch, outputs_of(model, batch, optimised=True)


FAST = [("generic", "gcc", "-O0"), ("sse2", "clang", "-O1"), ("v3", "gcc", "-O3"), ("v4", "clang", "-O3"),
        ("vnni", "gcc", "-O3"), ("vnni", "clang", "-O0"), ("pairs", "gcc", "-O1"),
        ("vectors", "gcc", "-O1")]  # fmt: skip
ALL = [(isa, cc, level) for isa in ISAS for cc in ("gcc", "clang") for level in ("-O0", "-O3")]
SLOW = [pytest.param(*one, marks=pytest.mark.slow) for one in ALL if one not in FAST]


@pytest.mark.parametrize(("isa", "cc", "level"), FAST + SLOW)
def test_every_compiler_and_instruction_set_gives_the_same_bits(tmp_path, kinds, isa, cc, level):
    """Against the bits of the generic target, compiled with gcc -O1 here; and near ONNX Runtime's."""
    target, flags, cpu = ISAS[isa]
    if not runs_here(cpu):
        pytest.skip(f"this CPU does not run {cpu}")
    model, batch, expected = kinds
    plain = build(tmp_path, model, name="plain").run(batch)
    optimised = (level, *OPTIMISED[1:])
    found = build(tmp_path, model, target, cc, optimised, isa=flags).run(batch)
    assert found.tobytes() == plain.tobytes()
    assert np.abs(found - expected).max() <= 0.03 * np.abs(expected).max()


def sanitizes(cc):
    """Whether a compiler comes with its sanitizers' runtime: Debian's clang has it in a package of its own."""
    name = {"gcc": "libasan.so", "clang": "libclang_rt.asan-x86_64.a"}[cc]
    told = subprocess.run([compiler(cc), f"-print-file-name={name}"], capture_output=True, text=True, check=True)
    return Path(told.stdout.strip()).is_absolute() and Path(told.stdout.strip()).exists()


@pytest.mark.parametrize("cc", ["gcc", pytest.param("clang", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "isa", ["generic", "pairs, fixed point", "vectors", pytest.param("v3", marks=pytest.mark.slow), "vnni"]
)
def test_sanitizers_find_nothing(tmp_path, kinds, isa, cc):
    target, flags, cpu = ISAS[isa]
    if not runs_here(cpu):
        pytest.skip(f"this CPU does not run {cpu}")
    if not sanitizes(cc):
        pytest.skip(f"{cc} has no sanitizers: apt-get install libclang-rt-14-dev")
    model, batch, _ = kinds
    build(tmp_path, model, target, cc, ("-O0", *SANITIZERS), isa=flags).run(batch)


@pytest.mark.parametrize("cc", ["gcc", "clang"])
def test_generic_is_c99_alone(tmp_path, kinds, cc):
    model, batch, _ = kinds
    plain = build(tmp_path, model, name="plain").run(batch)
    found = build(tmp_path, model, "generic", cc, ("-O2", "-pedantic")).run(batch)
    assert found.tobytes() == plain.tobytes()
