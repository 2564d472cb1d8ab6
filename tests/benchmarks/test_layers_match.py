"""Each kernel to its nodes: on the real engines, every node in one place; what cannot be matched has a name."""

import itertools

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from edgeline.backends.onnxruntime import OnnxRuntimeSession
from edgeline.errors import EdgelineError, MissingCapabilityError
from edgeline_bench.engines import engine_from_spec
from edgeline_bench.layers.graph import float_view, read_graph
from edgeline_bench.layers.matching import Kernel, profile_from_kernels
from edgeline_bench.layers.onnxruntime_match import match_optimised
from edgeline_bench.layers.onnxruntime_profile import kernel_times, kernels_from_profile
from edgeline_bench.layers.session_profile import profile_session
from edgeline_bench.layers.torch_match import align
from edgeline_bench.layers.torch_profile import profile_torch
from edgeline_export.fold import folded
from edgeline_export.graph import clean_graph
from edgeline_export.half import half
from edgeline_export.quantise import quantised
from edgeline_export.torch_source import graph_from_module
from edgeline_train.models import MODELS
from edgeline_train.models.plain import plain_network
from tests.doubles.artefacts import images, write_artefact
from tests.export.networks import Rich, rich_graph, rich_module, written_by_hand
from tests.export.test_quantise import ranges_of

SECONDS = 0.05


def optimised(model, tmp_path):
    """What ONNX Runtime makes of a graph at the level that sessions use."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return onnx.load(tmp_path / "optimised.onnx").graph.node


def profile_of(graph, matches):
    """A profile in which each kernel took a second."""
    kernels = [Kernel(match.name, 1.0, match.nodes, match.beside) for match in matches]
    return profile_from_kernels(graph, kernels, "x", 1.0, 1)


def covered(profile):
    return sorted(itertools.chain.from_iterable(group.nodes for group in profile.groups))


def operators(graph, group):
    kinds = {node.name: node.operator for node in graph.nodes}
    plain = ("QuantizeLinear", "DequantizeLinear", "Cast", "Reshape", "Flatten")
    return [kinds[name] for name in group.nodes if kinds[name] not in plain]


@pytest.fixture(scope="module")
def networks():
    """The same small network as float, int8 in both layouts, half; and one that another exporter would write."""
    plain = clean_graph(folded(rich_graph()))
    ranges = ranges_of(plain, np.random.default_rng(0).standard_normal((16, 3, 16, 16)).astype(np.float32))
    return {
        "float": plain,
        "int8 integer": clean_graph(quantised(plain, ranges, "integer")),
        "int8 fused": clean_graph(quantised(plain, ranges, "fused")),
        "half": clean_graph(half(plain)),
        "by hand": written_by_hand(),
    }


@pytest.mark.parametrize("name", ["float", "int8 integer", "int8 fused", "half", "by hand"])
def test_onnxruntime_covers_every_node_once(networks, name, tmp_path):
    model = networks[name]
    graph = read_graph(model, 2)
    nodes = optimised(model, tmp_path)
    profile = profile_of(graph, match_optimised(graph, nodes))
    assert (profile.unmatched, profile.uncovered) == ((), ())
    assert covered(profile) == sorted(graph.names)
    assert sum(group.time_s for group in profile.groups) == len(nodes)  # each kernel in one group


@pytest.fixture(scope="module")
def lenet5():
    """LeNet-5 with its subsampling, scaled tanh and output units, as PyTorch has it and in three precisions."""
    torch.manual_seed(0)
    network = MODELS["lenet5-c3-rbf"].build().eval()
    plain = clean_graph(folded(graph_from_module(network, (1, 32, 32))))
    ranges = ranges_of(plain, np.random.default_rng(0).standard_normal((16, 1, 32, 32)).astype(np.float32))
    integer = clean_graph(quantised(plain, ranges, "integer"))
    return network, {"float": plain, "int8 integer": integer, "half": clean_graph(half(plain))}


@pytest.mark.parametrize("name", ["float", "int8 integer", "half"])
def test_a_coefficient_of_each_map_that_became_a_convolution(lenet5, name, tmp_path):
    """Of 16 maps, in the layout NCHWc, ONNX Runtime makes a depthwise convolution where the graph has a Mul."""
    model = lenet5[1][name]
    graph = read_graph(model, 2)
    profile = profile_of(graph, match_optimised(graph, optimised(model, tmp_path)))
    assert (profile.unmatched, profile.uncovered) == ((), ())
    assert covered(profile) == sorted(graph.names)


def test_a_convolution_that_only_scales_is_known_by_its_name(lenet5):
    """As ONNX Runtime 1.31 names it on a machine with AVX-512."""
    graph = read_graph(lenet5[1]["float"], 2)
    nodes = [
        helper.make_node("Mul", ["input", "val_2"], ["mul_32"], "node_mul_32"),  # for all that comes before
        helper.make_node("AveragePool", ["mul_32"], ["a"], "avg_pool2d_1_nchwc"),
        helper.make_node("Conv", ["a", "mul_scale"], ["reorder_token_8"], "mul_37_mul_nchwc", group=16),
        helper.make_node("ReorderOutput", ["reorder_token_8"], ["mul_37"], "ReorderOutput_token_16"),
        helper.make_node("Add", ["mul_37", "s4.bias"], ["add_81"], "node_add_81"),
    ]
    matches = match_optimised(graph, nodes)
    assert matches[2].nodes == ("node_mul_37",)
    assert (matches[3].nodes, matches[3].beside) == ((), 2)


def test_eager_lenet5_is_aligned_with_its_graph(lenet5):
    network, graphs = lenet5
    graph = read_graph(graphs["float"], 2)
    batch = torch.randn(2, 1, 32, 32)
    plain = plain_network(network)

    def call():
        with torch.inference_mode():
            return plain(batch)

    profile = profile_torch(call, graph, SECONDS)
    assert (profile.unmatched, profile.uncovered) == ((), ())
    assert covered(profile) == sorted(float_view(graph).names)
    by_operator = {"+".join(operators(graph, group)): group.kernels for group in profile.groups}
    assert by_operator["Pow"] == ("aten::square",)
    assert by_operator["ReduceSum"] == ("aten::sum",)


def test_onnxruntime_fuses_what_its_optimised_graph_says(networks, tmp_path):
    """Residual and Concat among them; a change of layout counts to a neighbour."""
    graph = read_graph(networks["float"], 2)
    profile = profile_of(graph, match_optimised(graph, optimised(networks["float"], tmp_path)))
    found = [operators(graph, group) for group in profile.groups]
    assert found[:2] == [["Conv", "Relu"], ["Conv", "Clip"]]
    assert ["Add"] in found or ["Conv", "Clip", "Add"] in found
    assert ["Concat"] in found
    assert found[-1] == ["Softmax"]
    changes = [k for group in profile.groups for k in group.kernels if k.startswith("Reorder")]
    assert all(len(group.kernels) > 1 for group in profile.groups if set(changes) & set(group.kernels))


def test_onnxruntime_folds_batch_normalization_into_the_convolution(tmp_path):
    model = written_by_hand()
    graph = read_graph(model, 2)
    profile = profile_of(graph, match_optimised(graph, optimised(model, tmp_path)))
    found = {group.nodes[0]: group.nodes for group in profile.groups}
    assert found["c1"] == ("c1", "n1", "r1")
    assert found["n2"] == ("n2",)
    assert found["f"] == ("f", "m", "a")  # the shape, and MatMul + Add as one Gemm


def test_integer_kernels_take_their_quantize_linear(networks, tmp_path):
    """A QLinearConv reads and writes integers: its Q is its own, and so is the activation that the Q made needless."""
    graph = read_graph(networks["int8 integer"], 2)
    profile = profile_of(graph, match_optimised(graph, optimised(networks["int8 integer"], tmp_path)))
    kinds = {node.name: node.operator for node in graph.nodes}
    convolutions = [group for group in profile.groups if "Conv" in operators(graph, group)]
    assert len(convolutions) == 5
    for group in convolutions:
        assert [kinds[name] for name in group.nodes].count("QuantizeLinear") == 1


def test_what_onnxruntime_computes_on_weights_counts_to_who_reads_it():
    """It quantises a float bias by nodes of its own, at each call."""
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", ["n", 4]), ("y", ["n", 2]))]
    weights = [numpy_helper.from_array(np.ones(s, np.float32), n) for n, s in (("w", (4, 2)), ("b", (2,)))]
    gemm = helper.make_node("Gemm", ["x", "w", "b"], ["y"], "gemm")
    body = helper.make_graph([gemm], "g", ends[:1], ends[1:], weights)
    graph = read_graph(helper.make_model(body, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), 1)
    nodes = [
        helper.make_node("Div", ["b", "s"], ["d"], "gemm_bias_div"),
        helper.make_node("Round", ["d"], ["r"], "gemm_bias_div_round"),
        helper.make_node("Gemm", ["x", "w", "r"], ["y"], "gemm"),
    ]
    profile = profile_of(graph, match_optimised(graph, nodes))
    assert [(group.nodes, group.time_s) for group in profile.groups] == [(("gemm",), 3.0)]
    assert profile.unmatched == ()


def test_a_kernel_that_is_nowhere_in_the_graph_is_an_error_with_its_name(networks, tmp_path):
    graph = read_graph(networks["float"], 2)
    nodes = list(optimised(networks["float"], tmp_path))
    nodes.append(helper.make_node("Conv", ["elsewhere", "w"], ["nothing"], "stranger"))
    nodes.append(helper.make_node("Conv", ["input", "w"], ["relu"], "twin"))  # of a kernel that has its nodes already
    profile = profile_of(graph, match_optimised(graph, nodes))
    assert [group.kernels for group in profile.unmatched] == [("stranger",), ("twin",)]
    matches = match_optimised(graph, nodes[:-2])
    kernels = kernels_from_profile({match.name: 1.0 for match in matches} | {"late": 2.0}, matches)
    assert [(kernel.name, kernel.nodes) for kernel in kernels[len(matches) :]] == [("late", ())]


def test_a_convolution_that_no_kernel_names_is_uncovered(networks):
    graph = read_graph(networks["float"], 2)
    names = [node.name for node in graph.nodes if node.operator != "Conv"]
    profile = profile_from_kernels(graph, [Kernel(name, 1.0, (name,)) for name in names], "x", 1.0, 1)
    assert sorted(profile.uncovered) == sorted(n.name for n in graph.nodes if n.operator == "Conv")


def test_kernels_of_a_profile_by_call():
    def event(name, us, category="Node"):
        return {"cat": category, "name": name, "dur": us}

    events = [
        event("session_initialization", 900, "Session"),
        *[event("a_kernel_time", 3), event("b_fence_before", 9), event("b_kernel_time", 4)],
        *[event("SequentialExecutor::Execute", 9, "Session"), event("model_run", 10, "Session")],
        *[event("a_kernel_time", 5), event("a_kernel_time", 1), event("model_run", 10, "Session")],
    ]
    assert kernel_times(events) == [{"a": 3e-6, "b": 4e-6}, {"a": pytest.approx(6e-6)}]


def test_unnamed_nodes_are_matched_by_operator_and_order():
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("Sigmoid", ["a"], ["b"]),
        helper.make_node("Relu", ["b"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in ("x", "y")]
    body = helper.make_graph(nodes, "g", ends[:1], ends[1:])
    graph = read_graph(helper.make_model(body, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), 1)
    kernels = kernels_from_profile({"Relu_0": 1.0, "Sigmoid_1": 2.0, "Relu_7": 3.0}, match_optimised(graph, nodes))
    assert [(kernel.name, kernel.nodes, kernel.time_s) for kernel in kernels] == [
        ("Relu_0", ("a",), 1.0), ("Sigmoid_1", ("b",), 2.0), ("Relu_7", ("y",), 3.0),
    ]  # fmt: skip
    for node, name in zip(nodes, ("Relu", "other", "Relu_9"), strict=True):
        node.name = name
    named = kernels_from_profile({"Relu_9": 3.0, "other": 2.0}, match_optimised(graph, nodes))
    assert [kernel.time_s for kernel in named] == [0.0, 2.0, 3.0]  # a name is not looked for by its operator


# --- eager ------------------------------------------------------------------------------------------------------------


def test_eager_calls_are_aligned_with_the_graph_that_was_folded():
    """BatchNorm was folded into the convolution before it, Dropout is nothing, a linear layer may be MatMul and Add."""
    view = float_view(read_graph(written_by_hand(), 1))
    called = ["conv2d", "batch_norm", "hardtanh", "avg_pool2d", "dropout", "batch_norm", "conv2d", "cat",
              "adaptive_avg_pool2d", "flatten", "linear", "softmax"]  # fmt: skip
    found = align([f"aten::{name}" for name in called], view.nodes)
    nodes = [names for names, _ in found]
    assert nodes == [("c1",), ("n1",), ("r1",), ("p1",), (), ("n2",), ("c2",), ("k",), ("g",), ("f",), ("m",),
                     ("softmax",)]  # fmt: skip
    assert found[4] == ((), True)
    kernels = [Kernel(name, 1.0, names) for name, names in zip(called, nodes, strict=True) if names]
    groups = profile_from_kernels(view, kernels, "x", 1.0, 1).groups
    assert ("f", "m", "a") in [group.nodes for group in groups]


def test_eager_functional_and_module_calls(networks):
    """The small network mixes both; the graph is its int8 form, whose Q/DQ eager knows nothing of."""
    graph = read_graph(networks["int8 integer"], 2)
    network, batch = rich_module(), torch.randn(2, *Rich.input_shape)

    def call():
        with torch.inference_mode():
            return network(batch)

    profile = profile_torch(call, graph, SECONDS)
    view = float_view(graph)
    assert (profile.unmatched, profile.uncovered) == ((), ())
    assert covered(profile) == sorted(view.names)
    by_operator = {"+".join(operators(view, group)): group.kernels for group in profile.groups}
    assert by_operator["Add"] == ("aten::add",)
    assert by_operator["Concat"] == ("aten::cat",)
    assert by_operator["ReduceMean"] == ("aten::adaptive_avg_pool2d",)
    assert sum("aten::batch_norm" in group.kernels for group in profile.groups) == 2
    assert all(group.time_s > 0 for group in profile.groups)
    assert profile.scale > 0


def test_an_operator_that_the_graph_does_not_have_is_named():
    graph = read_graph(networks_without_softmax(), 2)
    network, batch = rich_module(), torch.randn(2, *Rich.input_shape)
    profile = profile_torch(lambda: torch.special.erf(network(batch).detach()), graph, SECONDS)
    assert [group.kernels for group in profile.unmatched] == [("aten::softmax",), ("aten::special_erf",)]


def networks_without_softmax():
    model = rich_graph()
    (softmax,) = [node for node in model.graph.node if node.op_type == "Softmax"]
    model.graph.node.remove(softmax)
    for node in model.graph.node:
        node.output[:] = ["logits" if name == softmax.input[0] else name for name in node.output]
    return clean_graph(model)


def test_a_network_that_changes_its_mind_has_no_profile(networks):
    turns = itertools.count()
    value = torch.ones(3)

    def call():
        return value.sigmoid() if next(turns) % 2 else value.tanh()

    with pytest.raises(EdgelineError, match="calls other operators from call to call"):
        profile_torch(call, read_graph(networks["float"], 2), SECONDS)


WINOGRAD = (
    "onednn_verbose,v1,primitive,exec,cpu,convolution,{0},forward_inference,src:f32::blocked:abcd::f0,,alg:{1},"
    "mb1_ic8oc8_ih16oh16kh3sh1dh0ph1_iw16ow16kw3sw1dw0pw1,0.1"
)


@pytest.mark.parametrize(
    ("implementation", "algorithm", "found"),
    [
        ("jit:avx512_core", "convolution_direct", []),
        ("jit_wino_4x3:avx512_core", "convolution_winograd", ["node_Conv_35"]),
        ("wino:acl", "convolution_auto", ["node_Conv_35"]),
    ],
)
def test_winograd_is_what_onednn_says(networks, monkeypatch, implementation, algorithm, found):
    """8 channels in and out, 16 rows, a kernel of 3: neither the stem with 3 channels in nor the depthwise one."""
    from edgeline_bench.layers import torch_profile

    class Said:
        def __enter__(self):
            return lambda: WINOGRAD.format(implementation, algorithm)

        def __exit__(self, *_):
            return None

    monkeypatch.setattr(torch_profile, "_captured_stdout", Said)
    view = float_view(read_graph(networks["float"], 1))
    assert sorted(torch_profile._winograd_nodes(lambda: None, view)) == sorted(found)


def test_onednn_on_this_machine_tells_its_algorithm():
    """The pattern fits what the library that torch brings really prints."""
    from edgeline_bench.layers import torch_profile

    onednn = torch.backends.mkldnn
    if not onednn.is_available():
        pytest.skip("this torch has no oneDNN")
    convolution, batch = torch.nn.Conv2d(16, 32, 3, padding=1), torch.randn(2, 16, 24, 24)
    with torch.inference_mode(), torch_profile._captured_stdout() as text, onednn.verbose(onednn.VERBOSE_ON):
        convolution(batch)
    found = torch_profile._CONVOLUTION.findall(text())
    assert [line[2:] for line in found] == [("", "16", "32", "24", "3")]


# --- the engines of a worker ------------------------------------------------------------------------------------------


def spec(folder, host, **others):
    common = {"host": host, "engine": "onnxruntime", "batch": 2, "threads": 1, "pinned": [], "device": "cpu"}
    return {**common, "format": "onnx", "folder": str(folder), "source": {}, **others}


def test_onnxruntime_profiles_an_artefact(exported):
    engine = engine_from_spec(spec(exported, "session"))
    engine.import_packages()
    engine.load()
    engine.prepare()
    profile = engine.profile(SECONDS)
    graph = read_graph(onnx.load(exported / "model.onnx"), 2)
    assert (profile.method, profile.unmatched, profile.uncovered) == ("onnxruntime profile", (), ())
    assert covered(profile) == sorted(graph.names)
    assert [operators(graph, group)[0] for group in profile.groups] == [
        "Conv", "AveragePool", "Conv", "AveragePool", "Gemm", "Gemm", "Gemm",
    ]  # fmt: skip
    assert profile.calls >= 12
    assert profile.scale > 0


def test_eager_profiles_the_network_of_an_artefact(exported, weights_file, monkeypatch):
    monkeypatch.setattr(torch, "set_num_interop_threads", lambda _threads: None)  # once in a process only
    source = {"kind": "model", "model": "lenet", "weights": str(weights_file)}
    engine = engine_from_spec(spec(exported, "eager", engine="eager", source=source))
    engine.import_packages()
    engine.load()
    engine.prepare()
    profile = engine.profile(SECONDS)
    graph = read_graph(onnx.load(exported / "model.onnx"), 2)
    assert (profile.method, profile.unmatched, profile.uncovered) == ("torch.profiler", (), ())
    assert covered(profile) == sorted(graph.names)
    assert [group.kernels for group in profile.groups][-5] == ("aten::flatten", "aten::linear")


def test_an_engine_without_a_profiler_says_so(tmp_path):
    artefact = write_artefact(tmp_path / "small", "onnx")
    with OnnxRuntimeSession(artefact, "cpu") as session:
        session.device = "cuda"
        with pytest.raises(
            MissingCapabilityError, match="onnxruntime on cuda tells no time per layer; engines that do"
        ):
            profile_session(session, images(2), SECONDS)
    with pytest.raises(MissingCapabilityError, match="has no layers"):
        engine_from_spec({"host": "reference"}).profile(1.0)
