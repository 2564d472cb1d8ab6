"""The build on the device: from the artefact's graph to a plan in the cache, once, and only if it computes the same.

Several processes may ask for the same plan: one builds, the others wait and find it. A build that is killed leaves
nothing that loads, and its lock goes with it. A plan may carry code and may compute nonsense, so it is cached only
after the artefact's self-test has passed on it. What its key is, `plans` says; how it is built, `builder`.
"""

from __future__ import annotations

import glob
from dataclasses import dataclass
from pathlib import Path

from edgeline.artefact import GRAPH_FILE, Artefact
from edgeline.cache import is_whole, locked, write_checked
from edgeline.command import note
from edgeline.cuda import Gpu, gpu
from edgeline.errors import GateError, InputError, MissingCapabilityError
from edgeline.selftest import SelftestResult, run_selftest
from edgeline.tensorrt.builder import build_engine
from edgeline.tensorrt.plans import cached_plan, describe_key, own_misfits, plan_key, settings_of
from edgeline.tensorrt.products import PRODUCTS, Product, load_product


@dataclass(frozen=True, slots=True)
class Built:
    """A plan that is ready. `origin` is "built" just now, "cached" from before, or "artefact": it brings its own.

    `selftest` and `warnings` (the builder's own words) come with a plan that was built just now.
    """

    path: Path
    origin: str
    selftest: SelftestResult | None = None
    warnings: tuple[str, ...] = ()


def builder_of(artefact: Artefact) -> tuple[Product, Gpu]:
    """Import what builds and runs the artefact's engine, and return it with the GPU to build for.

    Raises InputError when the artefact has no engine to build, MissingCapabilityError without a GPU or the product.
    """
    info = PRODUCTS.get(artefact.manifest.format)
    if info is None:
        raise InputError(
            f"{artefact.name} has no engine to build: its format is {artefact.manifest.format}, "
            f"{' and '.join(PRODUCTS)} have one; edgeline run {artefact.folder} runs it as it is"
        )
    found = gpu()
    if found is None:
        without = "builds" if info.format == "trt" else "could build here, but checks the engine by running it,"
        raise MissingCapabilityError(
            f"there is no NVIDIA GPU or driver here, and {info.name} {without} on the GPU: run edgeline build on the "
            "device; until then --engine onnxruntime runs the artefact's graph"
        )
    return load_product(info.format), found


def build_plan(artefact: Artefact, *, rebuild: bool = False) -> Built:
    """Make sure that this machine has a plan of the artefact, and return it.

    The artefact's own plan is taken where it fits, else the one in the cache; else, and with `rebuild`, it is built,
    put through the self-test, and cached.

    Raises what builder_of raises; InputError when the builder refuses the graph, or when `rebuild` asks to replace a
    plan that the artefact brings; GateError when the self-test fails: the plan is then not kept; ResourceError when
    the cache cannot be used.
    """
    product, found = builder_of(artefact)
    if artefact.manifest.build == "built" and not own_misfits(artefact, product, found):
        if rebuild:
            raise InputError(f"{artefact.name} brings an engine that fits here; leave --rebuild out")
        return Built(artefact.file(product.info.plan_file), "artefact")
    path = cached_plan(artefact, product, found)
    with locked(path):
        if not rebuild and is_whole(path):
            return Built(path, "cached")
        return _build(artefact, product, found, path)


def _build(artefact: Artefact, product: Product, found: Gpu, path: Path) -> Built:
    from edgeline.backends.tensorrt import TensorRtSession

    note(f"building {artefact.name}: {describe_key(plan_key(artefact, product, found))}")
    graph = artefact.file(GRAPH_FILE).read_bytes()
    engine = build_engine(product, graph, settings_of(artefact, product, found))
    _remove_leftovers(path)
    unproven = path.with_name(f".{path.name}.unproven")
    try:
        unproven.write_bytes(engine.plan)
        with TensorRtSession(artefact, "cuda", plan=unproven) as session:
            result = run_selftest(session)
        write_checked(path, engine.plan)
    except GateError as error:
        raise GateError(f"{error}; the engine was not kept") from None
    finally:
        unproven.unlink(missing_ok=True)
    return Built(path, "built", result, engine.warnings)


def _remove_leftovers(path: Path) -> None:
    """Remove what a killed build of the same plan left. The lock is held, so nobody else is writing there."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*"):
        left.unlink(missing_ok=True)
