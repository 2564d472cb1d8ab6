"""The double of TensorRT and CUDA held against the real packages, and each of its checks against a misuse.

TensorRT itself installs from NVIDIA's own index only: its type stubs stand for it. TensorRT-RTX and cuda-bindings are
the real ones; without a driver they can be asked for names and signatures, and for what they answer then.
"""

import ast
import contextlib
import enum
import inspect
import re
import sys
import textwrap
from pathlib import Path

import pytest

from edgeline.cuda import has_cuda_driver
from edgeline.manifest import BatchRange
from edgeline.tensorrt.builder import BuildSettings, build_engine
from edgeline.tensorrt.plan_header import read_plan_header
from edgeline.tensorrt.products import load_product, product_state
from tests.doubles import gpu_double, install
from tests.doubles.artefacts import small_graph
from tests.doubles.context import IExecutionContext
from tests.doubles.cudart import ENUMS, HANDLES, Cudart, functions, make_cudart
from tests.doubles.install import names
from tests.doubles.plan import unpack_plan
from tests.doubles.world import FLAVOURS, Faults, World

STUBS = Path(sys.prefix) / "stubs" / "tensorrt_bindings" / "tensorrt.pyi"
SETTINGS = BuildSettings("fp32", BatchRange(1, 2, 4))


def offered(flavour):
    return names(World(FLAVOURS[flavour], None, Faults(), 0))


@pytest.fixture(scope="module")
def real_rtx():
    if product_state("trt-rtx").module is None:
        pytest.skip("TensorRT-RTX is not installed")
    return load_product("trt-rtx")


@pytest.fixture(scope="module")
def real_cudart():
    return pytest.importorskip("cuda.bindings.runtime", reason="cuda-bindings is not installed")


@pytest.fixture(scope="module")
def stub_classes():
    """The classes of TensorRT 10.13 by name, as their stubs have them: methods with parameters, attributes, values."""
    if not STUBS.exists():
        pytest.skip(f"TensorRT's stubs are not there: python tests/checks/tensorrt_stubs.py {STUBS.parents[1]}")
    text = STUBS.read_text(encoding="utf-8")
    found, lines = {}, text.splitlines()
    for node in ast.parse(text).body:
        if isinstance(node, ast.ClassDef):
            methods, attributes = {}, set()
            for item in node.body:
                if isinstance(item, ast.FunctionDef):
                    is_property = any(getattr(d, "id", "") == "property" for d in item.decorator_list)
                    parameters = [argument.arg for argument in item.args.args if argument.arg != "self"]
                    attributes.add(item.name) if is_property else methods.setdefault(item.name, []).append(parameters)
                elif isinstance(item, ast.AnnAssign):
                    attributes.add(item.target.id)
            body = "\n".join(lines[node.lineno - 1 : node.end_lineno])
            values = re.findall(rf"^    (\w+): .*# value = <{node.name}\.\w+: (-?\d+)>", body, re.M)
            found[node.name] = (methods, attributes, {name: int(value) for name, value in values})
    return found


def surface(kind):
    """The public methods (with their parameters, None for any) and attributes that a class of the double offers."""
    methods, attributes = {}, set()
    for base in inspect.getmro(kind):
        if not base.__module__.startswith("tests.") or base.__module__ == install.__name__:
            continue  # of Python, or made on the spot to tie a class to its world
        for name, thing in vars(base).items():
            if inspect.isfunction(thing) and (name[0] != "_" or name == "__init__"):
                methods.setdefault(name, parameters_of(thing))
            elif name[0] != "_" and not inspect.isclass(thing):
                attributes.add(name)
        tree = ast.parse(textwrap.dedent(inspect.getsource(base)))
        assigned = [n for n in ast.walk(tree) if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Store)]
        attributes |= {n.attr for n in assigned if getattr(n.value, "id", "") == "self" and n.attr[0] != "_"}
    if kind.__name__ not in ("Builder", "Runtime", "OnnxParser", "Dims", "ILogger"):
        methods.pop("__init__", None)  # TensorRT makes these; a program cannot
    return methods, attributes


def parameters_of(function):
    parameters = list(inspect.signature(function).parameters.values())[1:]
    if any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters):
        return None
    return [p.name for p in parameters]


def signatures(doc):
    """The parameter lists that a docstring of pybind11 begins with, one for each overload."""
    found = []
    for arguments in re.findall(r"^(?:\d+\. )?\w+\((.*)\)(?: -> .*)?$", doc or "", re.M):
        while (flat := re.sub(r"[\[<(][^\[\]<>()]*[\]>)]", "", arguments)) != arguments:  # types with commas in them
            arguments = flat
        parts = [part.split(":")[0].split("=")[0].strip() for part in flat.split(",")]
        found.append([part for part in parts if part not in ("self", "", "*args", "**kwargs")])
    return found


def values_of(kind):
    return {name: int(value) for name, value in kind.__members__.items()}


def differences(ours, theirs):
    """Say what a class of the double offers and a class of pybind11 does not have."""
    if issubclass(ours, enum.Enum):
        return [f"{name}: {value}" for name, value in values_of(ours).items() - values_of(theirs).items()]
    methods, attributes = surface(ours)
    wrong = [name for name in {*methods, *attributes} if not hasattr(theirs, name)]
    for name, parameters in methods.items():
        found = getattr(theirs, name, None)
        if not callable(found) or (parameters is not None and parameters not in signatures(found.__doc__)):
            wrong.append(f"{name}({parameters})")
    return wrong


@pytest.mark.parametrize("name", offered("rtx"))
def test_the_double_of_tensorrt_rtx_offers_what_the_real_one_has(name, real_rtx):
    assert differences(offered("rtx")[name], getattr(real_rtx.module, name)) == []


def test_what_the_real_one_does_not_have_is_seen(real_rtx):
    class Invented(IExecutionContext):
        def set_everything(self, name):
            self.everything = name

        def set_input_shape(self, name, size):
            return True

    assert sorted(differences(Invented, real_rtx.module.IExecutionContext)) == [
        "everything", "set_everything", "set_everything(['name'])", "set_input_shape(['name', 'size'])",
    ]  # fmt: skip
    assert differences(enum.IntEnum("Mode", {"INPUT": 2}), real_rtx.module.TensorIOMode) == ["INPUT: 2"]
    methods, attributes = surface(IExecutionContext)
    assert methods["set_tensor_address"] == ["name", "memory"]
    assert attributes == {"active_optimization_profile", "nvtx_verbosity", "profiler"}


@pytest.mark.parametrize("flavour", ["trt10", "trt11"])
@pytest.mark.parametrize("name", sorted({*offered("trt10"), *offered("trt11")}))
def test_the_double_of_tensorrt_offers_what_the_stubs_have(flavour, name, stub_classes):
    if name not in offered(flavour):
        assert (flavour, name) == ("trt10", "IRuntimeConfig")  # TensorRT 10.3 has none yet
        return
    ours = offered(flavour)[name]
    their_methods, their_attributes, their_values = stub_classes[name]
    if issubclass(ours, enum.Enum):
        values = values_of(ours)
        if (flavour, name) == ("trt11", "NetworkDefinitionCreationFlag"):
            assert values.pop("STRONGLY_TYPED") != their_values["STRONGLY_TYPED"]  # the stubs are TensorRT 10's
        assert values.items() <= their_values.items()
        return
    methods, attributes = surface(ours)
    for method, parameters in methods.items():
        assert parameters is None or parameters in their_methods[method], method
    assert attributes <= their_attributes


def test_the_double_of_cuda_offers_what_the_real_one_has(real_cudart):
    world = World(FLAVOURS["trt10"], None, Faults(), 0)
    for name, function in functions(Cudart(world)).items():
        doc = getattr(real_cudart, name).__doc__
        theirs = [part.split(":")[0].split()[-1] for part in re.match(r"\w+\((.*?)\)", doc)[1].split(",") if part]
        assert list(inspect.signature(function).parameters) == theirs, name
        # The section "Returns" has a line for each value of the answer; those that are indented describe it.
        returns = re.search(r"\nReturns\n-+\n(.*?)(?:\n\n\S|\Z)", doc, re.S)[1]
        values = [line for line in returns.splitlines() if line and not line.startswith(" ")]
        double = getattr(make_cudart(world), name)
        answered = double(
            *([real_cudart.cudaError_t.cudaSuccess] * len(theirs) if "Error" in name else [0] * len(theirs))
        )
        assert len(answered) == len(values), name
    for thing in ENUMS:
        members = getattr(real_cudart, thing.__name__).__members__
        assert {n: int(v) for n, v in thing.__members__.items()}.items() <= {
            n: int(v) for n, v in members.items()
        }.items()
    for thing in HANDLES:
        assert hasattr(getattr(real_cudart, thing.__name__), "__int__")
    assert real_cudart.cudaStreamNonBlocking == 1


def test_without_a_driver_the_double_of_cuda_answers_as_the_real_one(real_cudart):
    if has_cuda_driver():
        pytest.skip("there is a driver here: what CUDA answers without one cannot be asked")
    double = make_cudart(World(FLAVOURS["trt10"], None, Faults(), 0))
    for name, arguments in {
        "cudaGetDevice": (),
        "cudaSetDevice": (0,),
        "cudaMalloc": (16,),
        "cudaMallocHost": (16,),
        "cudaFree": (0,),
        "cudaMemGetInfo": (),
        "cudaStreamCreateWithFlags": (1,),
        "cudaStreamSynchronize": (0,),
        "cudaRuntimeGetVersion": (),
    }.items():
        theirs, ours = getattr(real_cudart, name)(*arguments), getattr(double, name)(*arguments)
        assert [int(theirs[0]), *theirs[1:]] == [int(ours[0]), *ours[1:]] or name == "cudaRuntimeGetVersion"
        assert len(theirs) == len(ours)
    old = real_cudart.cudaError_t.cudaErrorInsufficientDriver
    assert real_cudart.cudaGetErrorName(old)[1] == b"cudaErrorInsufficientDriver"
    assert real_cudart.cudaGetErrorString(old) == double.cudaGetErrorString(double.cudaError_t(int(old)))


def test_without_a_driver_the_double_of_tensorrt_rtx_answers_as_the_real_one(real_rtx):
    if has_cuda_driver():
        pytest.skip("there is a driver here: what TensorRT-RTX answers without one cannot be asked")
    answers = []
    for product in (real_rtx, None):
        with gpu_double("rtx", gpu=None) if product is None else contextlib.nullcontext():
            product = product or load_product("trt-rtx")
            built = build_engine(product, small_graph(), SETTINGS)  # with no GPU, both
            header = read_plan_header(built.plan[:64], "it")
            assert header.total_bytes == len(built.plan)
            runtime = product.module.Runtime(product.log.handle)
            mark = product.log.mark()
            verdict = runtime.get_engine_validity(built.plan)[0].name
            engine = runtime.deserialize_cuda_engine(built.plan)
            words = " ".join(product.log.errors_since(mark))
            answers.append((header.product, header.targets, verdict, engine, "driver version is insufficient" in words))
            answers.append((runtime.engine_host_code_allowed, built.strongly_typed))
            del runtime
    assert answers[:2] == answers[2:]


def test_the_double_of_tensorrt_rtx_takes_and_refuses_profiles_as_the_real_one(real_rtx):
    answers = []
    for product in (real_rtx, None):
        with gpu_double("rtx", gpu=None) if product is None else contextlib.nullcontext():
            product = product or load_product("trt-rtx")
            builder = product.module.Builder(product.log.handle)
            for sizes in ((1, 2, 4), (8, 1, 64), (1, 9, 4), (0, 1, 2), (-1, 1, 2), (1, 2, 1 << 31)):
                profile, config = builder.create_optimization_profile(), builder.create_builder_config()
                try:
                    answer = profile.set_shape("input", *(product.module.Dims((size, 1, 6, 6)) for size in sizes))
                except RuntimeError as error:
                    answer = str(error)
                answers.append((sizes, answer, config.add_optimization_profile(profile)))
            del builder, profile, config
    assert answers[:6] == answers[6:]
    assert [answer for _sizes, answer, _index in answers[4:6]] == [
        "Shape provided for min is inconsistent with other shapes.",
        "Shape provided for max is inconsistent with other shapes.",
    ]


# --- what the builder makes of it


@pytest.mark.parametrize(
    ("flavour", "faults", "precision", "typed", "flags"),
    [
        ("trt10", Faults(), "fp16", True, ()),
        ("trt10", Faults(strong_typing="cannot be strongly typed"), "fp16", False, ("FP16",)),
        ("trt10", Faults(strong_typing="cannot be strongly typed"), "int8+fp16", False, ("FP16", "INT8")),
        ("trt10", Faults(), "tf32", True, ("TF32",)),
        ("trt11", Faults(), "int8", True, ()),
        ("rtx", Faults(), "fp32", True, ()),
    ],
)
def test_a_plan_keeps_what_it_was_built_with(flavour, faults, precision, typed, flags):
    with gpu_double(flavour, faults=faults):
        product = load_product("trt-rtx" if flavour == "rtx" else "trt")
        built = build_engine(product, small_graph(), BuildSettings(precision, BatchRange(1, 2, 4)))
    record, graph = unpack_plan(built.plan)
    assert (built.strongly_typed, record.strongly_typed, record.flags) == (typed, typed, flags)
    assert record.profile == ((1, 1, 6, 6), (2, 1, 6, 6), (4, 1, 6, 6))
    assert graph == small_graph()
    assert read_plan_header(built.plan[:64], "it").version == FLAVOURS[flavour].version


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_hard_coded_typing_flag_is_seen(flavour):
    with gpu_double(flavour) as world:
        product = load_product("trt-rtx" if flavour == "rtx" else "trt")
        product.module.Builder(product.log.handle).create_network(1 << 1)
        seen = world.take_violations()
    assert bool(seen) == (flavour != "trt10")
