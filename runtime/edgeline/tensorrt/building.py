"""The build on the device: from the artefact's graph to a plan in the cache, once, and only if it computes the same.

Several processes may ask for the same plan: one builds, the others wait and find it. A build that is killed leaves
nothing that loads, its lock goes with it, and its leftovers go with the next build. A plan may carry code and may
compute nonsense, so it is cached only after the artefact's self-test has passed on it. What its key is, `plans` says;
how it is built, `builder`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgeline.artefact import GRAPH_FILE, Artefact
from edgeline.cache import locked, locked_at_once, write_checked
from edgeline.command import note
from edgeline.cuda import Gpu, gpu
from edgeline.errors import ArtefactError, GateError, InputError, MissingCapabilityError, ResourceError
from edgeline.selftest import SelftestResult, run_selftest
from edgeline.tensorrt.builder import build_engine
from edgeline.tensorrt.device import open_cuda
from edgeline.tensorrt.fit import cure
from edgeline.tensorrt.install import install_line
from edgeline.tensorrt.plans import cached_plan, describe_key, find_plan, plan_key, settings_of
from edgeline.tensorrt.products import PRODUCTS, Product, load_product, product_state

_UNPROVEN = ".unproven"


@dataclass(frozen=True, slots=True)
class Built:
    """A plan that is ready, and the self-test that it has just passed.

    `origin` is "built" just now, "cached" from before, or "artefact": it brings its own. `warnings` (the builder's own
    words) and `strongly_typed` come with a plan that was built just now; without strong typing its precision was
    allowed, not demanded.
    """

    path: Path
    origin: str
    selftest: SelftestResult
    warnings: tuple[str, ...] = ()
    strongly_typed: bool | None = None


def builder_of(artefact: Artefact) -> tuple[Product, Gpu]:
    """Import what builds and runs the artefact's engine, and return it with the GPU to build for.

    Raises InputError when the artefact has no engine to build, MissingCapabilityError without a GPU or the product.
    """
    info = PRODUCTS.get(artefact.manifest.format)
    if info is None:
        sources = artefact.manifest.format == "c" and artefact.manifest.build != "built"
        way_out = "a C compiler builds its sources" if sources else f"edgeline run {artefact.folder} runs it as it is"
        raise InputError(
            f"{artefact.name} has no engine to build: its format is {artefact.manifest.format}, "
            f"{' and '.join(PRODUCTS)} have one; {way_out}"
        )
    found = gpu()
    if found is None:
        without = "builds" if info.format == "trt" else "could build here, but checks the engine by running it,"
        raise MissingCapabilityError(
            f"there is no NVIDIA GPU or driver here, and {info.name} {without} on the GPU: run edgeline build on the "
            "device; until then --engine onnxruntime runs the artefact's graph"
        )
    state = product_state(info.format)
    if state.module is None:
        raise MissingCapabilityError(f"{state.why}: {install_line(info, found)}")
    return load_product(info.format), found


def build_plan(artefact: Artefact, *, rebuild: bool = False) -> Built:
    """Make sure that this machine has a plan of the artefact that passes its self-test, and return it.

    The plan that a session would take, the cached one or else the artefact's own, is opened and tested. Where there is
    none, where it fails (a note says so), and with `rebuild`, one is built, tested and cached.

    Raises what builder_of raises; InputError when the builder refuses the graph; GateError when the new plan
    does not load or fails the self-test: it is then not kept; ResourceError when the cache cannot be used.
    """
    product, found = builder_of(artefact)
    try:
        path = cached_plan(artefact, product, found)
    except ResourceError:
        tested = None if rebuild else _tested(artefact, product, found)
        if tested is None:
            raise
        return tested
    with locked(path):
        tested = None if rebuild else _tested(artefact, product, found)
        return tested or _build(artefact, product, found, path)


def build_missing(artefact: Artefact) -> None:
    """Build the artefact's plan where no session would find one here. One that is ready is not tested again.

    Raises what build_plan raises, and ArtefactError when the artefact's own plan is none.
    """
    product, found = builder_of(artefact)
    if find_plan(artefact, product, found)[0] is None:
        build_plan(artefact)


def _tested(artefact: Artefact, product: Product, found: Gpu) -> Built | None:
    """Return the plan that is ready once it has passed the self-test; None where there is none, or where it fails."""
    try:
        plan, _ = find_plan(artefact, product, found)
        return Built(plan.path, plan.origin, _selftest(artefact, plan.path)) if plan else None
    except (ArtefactError, GateError) as error:
        note(f"the engine of {artefact.name} that is ready here is not used: {_without_cure(error, artefact)}")
        return None


def _build(artefact: Artefact, product: Product, found: Gpu, path: Path) -> Built:
    open_cuda(found)  # a build takes minutes: what it cannot be tested without is missed before, not after it
    note(f"building {artefact.name}: {describe_key(plan_key(artefact, product, found))}")
    graph = artefact.file(GRAPH_FILE).read_bytes()
    engine = build_engine(product, graph, settings_of(artefact, product, found))
    _remove_leftovers(path.parent)
    unproven = path.with_name(f".{path.name}{_UNPROVEN}")
    try:
        unproven.write_bytes(engine.plan)
        result = _selftest(artefact, unproven)
        write_checked(path, engine.plan)
    except (ArtefactError, GateError) as error:
        raise GateError(f"{_without_cure(error, artefact)}; the engine was not kept") from None
    finally:
        unproven.unlink(missing_ok=True)
    return Built(path, "built", result, engine.warnings, engine.strongly_typed)


def _selftest(artefact: Artefact, plan: Path) -> SelftestResult:
    from edgeline.backends.tensorrt import TensorRtSession

    with TensorRtSession(artefact, "cuda", plan=plan) as session:
        return run_selftest(session)


def _without_cure(error: Exception, artefact: Artefact) -> str:
    """Leave out "edgeline build", which a session's errors name: it is what runs here."""
    return str(error).removesuffix(f": {cure(artefact)}")


def _remove_leftovers(folder: Path) -> None:
    """Remove the untested plans that killed builds left, of whatever key: those whose lock nobody holds.

    Our own lock we do hold, but our own leftover is about to be written anew.
    """
    for left in folder.glob(f".*{_UNPROVEN}"):
        with locked_at_once(folder / left.name[1 : -len(_UNPROVEN)]) as ours:
            if ours:
                left.unlink(missing_ok=True)
