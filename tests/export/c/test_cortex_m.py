"""The kernels for Cortex-M with the instructions that they are made of, bit for bit against their C99 twins.

The twins themselves are held against numpy and ONNX Runtime in test_integer_exactness.py.
"""

import subprocess

import numpy as np
import pytest
import torch

from edgeline.manifest import Preprocessing
from edgeline_export.c.emit import sources
from edgeline_export.c.header import Heading
from edgeline_export.c.pixels import pixels_for
from edgeline_export.c.targets import TARGETS
from edgeline_export.fold import folded
from edgeline_export.graph import clean_graph
from edgeline_export.quantise import quantised
from edgeline_export.torch_source import graph_from_module
from edgeline_train.models import MODELS
from tests.export.c.harness import WARNINGS, build, program_of
from tests.export.c.on_boards import needed, run_in_linux, run_on_board
from tests.export.c.qdq import Qdq
from tests.export.c.test_integer_exactness import all_kinds
from tests.export.test_quantise import ranges_of

RANDOM = np.random.default_rng(30)
RANDOMS = tuple(f"random {seed}" for seed in range(6))
NETWORKS = ("every operator", "lenet", "lenet-relu", *RANDOMS)
BOARDS = ("cortex-m0plus", "cortex-m4", "cortex-m7", "cortex-m55")


def lenet(name):
    torch.manual_seed(0)
    model = MODELS[name]
    plain = clean_graph(folded(graph_from_module(model.build().eval(), model.input_shape)))
    batch = RANDOM.standard_normal((3, *model.input_shape)).astype(np.float32)
    return quantised(plain, ranges_of(plain, batch), "integer"), batch


def random_network(random):
    """Conv, perhaps a table, perhaps a pooling, Conv: odd channels, groups, windows, and runs of every length."""
    inputs, rows, columns = (int(n) for n in (random.integers(1, 6), random.integers(11, 16), random.integers(11, 16)))
    g = Qdq((inputs, rows, columns))
    group = inputs if random.integers(0, 3) == 0 else 1
    out = group * int(random.integers(1, 8 if group == 1 else 3))
    kernel = [int(n) for n in random.integers(1, 5, 2)]
    y = g.conv(
        "c1", g.quantised("x", 1 / 40, 120), 1 / 40, out, inputs // group, kernel, group=group,
        pads=[int(n) for n in random.integers(0, 2, 4)], dilations=[int(n) for n in random.integers(1, 3, 2)],
        strides=[1, int(random.integers(1, 3))],
    )  # fmt: skip
    y = g.quantised(y if random.integers(0, 2) else g.node("Relu", [y], "r1"), 1 / 60, int(random.integers(0, 200)))
    scale, operator = 1 / 60, [None, "Sigmoid", "Tanh"][random.integers(0, 3)]
    if operator:
        scale = 1 / 127
        y = g.quantised(g.node(operator, [y], "a1"), scale, 128)
    pool = [None, "MaxPool", "AveragePool"][random.integers(0, 3)]
    if pool:
        size = [int(n) for n in random.integers(1, 4, 2)]
        y = g.quantised(g.node(pool, [y], "p1", kernel_shape=size, strides=size), scale, 100)
    y = g.quantised(g.conv("c2", y, scale, int(random.integers(1, 10)), out, (2, 1)), 1 / 50, 128)
    g.nodes.pop()
    return g.model(f"{y.removesuffix('_dq')}_q", "uint8"), g.batch_of(2)


@pytest.fixture(scope="module")
def networks():
    """Models and their inputs."""
    g, y = all_kinds()
    found = {"every operator": (g.model(y), g.batch_of(3))}
    found |= {name: lenet(name) for name in ("lenet", "lenet-relu")}
    found |= {name: random_network(np.random.default_rng(seed)) for seed, name in enumerate(RANDOMS)}
    return found


def twin(folder, model, target, batch, *flags):
    (folder / "twin").mkdir(exist_ok=True)
    return build(folder / "twin", model, target, isa=(), flags=("-O1", *flags)).run(batch)


SOME = [("random 1", "cortex-m4"), ("random 2", "cortex-m4"), ("random 1", "cortex-m55"), ("lenet-relu", "cortex-m4")]
REST = [pytest.param(name, target, marks=pytest.mark.slow) for name in NETWORKS for target in BOARDS
        if target != "cortex-m7" and (name, target) not in SOME]  # fmt: skip


@pytest.mark.parametrize(("name", "target"), SOME + REST)
def test_c99_twins_give_the_bits_of_the_generic_kernels(tmp_path, networks, name, target):
    model, batch = networks[name]
    generic = build(tmp_path, model).run(batch)
    assert twin(tmp_path, model, target, batch).tobytes() == generic.tobytes()
    assert (generic[0] != generic[1]).any()


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.cross
def test_smlad_gives_the_bits_of_c99(tmp_path, networks, name):
    model, batch = networks[name]
    for flags in (("-O2",), ("-O3",), ("-O0",)):
        found = run_in_linux(tmp_path, model, "cortex-m4", batch, flags)
        assert found.tobytes() == twin(tmp_path, model, "cortex-m4", batch).tobytes()


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("target", BOARDS)
@pytest.mark.cross
def test_boards_give_the_bits_of_c99(tmp_path, networks, name, target):
    model, batch = networks[name]
    found = run_on_board(tmp_path, model, target, batch)
    assert found.tobytes() == twin(tmp_path, model, target, batch).tobytes()


@pytest.mark.cross
def test_infer_u8_alone_is_small_and_has_no_float_step(tmp_path, networks):
    """Linked as in a flash image; 2.5 KB of code and 66 KB of constants are the requirement on the Cortex-M4."""
    needed("arm-none-eabi-gcc")
    model, _ = networks["lenet-relu"]
    target, program = TARGETS["cortex-m4"], program_of(model, "cortex-m4")
    pixels = pixels_for(program, Preprocessing(None, 1 / 255, (0.1313,), (0.3089,)))
    for file, content in sources(program, target, Heading("0" * 64, "edgeline", "a test"), pixels).items():
        (tmp_path / file).write_bytes(content)
    subprocess.run(
        ["arm-none-eabi-gcc", *target.optimise, *target.variants[0].flags, *WARNINGS, "-ffunction-sections",
         "-fdata-sections", "-nostartfiles", "-Wl,--gc-sections,-e,net_infer_u8", "net.c", "-o", "net.elf"],
        cwd=tmp_path, check=True,
    )  # fmt: skip
    shown = subprocess.run(
        ["arm-none-eabi-nm", "-S", "net.elf"], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout
    rows = [line.split() for line in shown.splitlines()]
    functions = {row[3]: int(row[1], 16) for row in rows if len(row) == 4 and row[2] in "tT"}
    constants = sum(int(row[1], 16) for row in rows if len(row) == 4 and row[2] in "rR")
    assert {"net_infer_u8", "edgeline_finish_sums"} <= {name.partition(".")[0] for name in functions}
    assert not [name for name in functions if "quantise" in name or "step_1" in name or name == "net_infer"]
    assert sum(functions.values()) <= 2560
    assert 61_000 < constants < 66_000
    assert program.pixel_arena_bytes <= 2688
