"""Which plan runs an artefact on this machine: the one built and cached here, else the artefact's own where it fits.

A plan is cached under a key of all that decides what the builder makes: another GPU, another TensorRT, and a driver for
another CUDA are another key, so that most updates lead to a rebuild and not to an engine that fails. The driver's own
version is not known here: one that is updated within the same CUDA finds the old plan, and whether that still runs,
`edgeline build` tests. Plans of old keys stay, since their GPU or TensorRT may come back: remove the folder `plans` of
the cache by hand to be rid of them; edgeline doctor tells its place and size. Nothing is built here (`building` does
that), and whether a plan whose header fits also loads is seen only when the session loads it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgeline.artefact import GRAPH_FILE, Artefact
from edgeline.cache import cache_folder, existing_cache_folder, is_cached, is_whole
from edgeline.cuda import Gpu
from edgeline.errors import ArtefactError, MissingCapabilityError, ResourceError
from edgeline.manifest import Manifest
from edgeline.tensorrt.builder import BuildSettings
from edgeline.tensorrt.plan_header import HEADER_BYTES, PlanHeader, read_plan_header
from edgeline.tensorrt.products import Product

# Raise it whenever builder.py makes another engine from the same graph and settings: cached plans are then rebuilt.
BUILDER_REVISION = 1
CACHE_NAME = "plans"


@dataclass(frozen=True, slots=True)
class PlanKey:
    """All that decides what the builder makes. `digest` is its name in the cache."""

    graph_sha256: str
    product: str
    version: str
    gpu: str
    compute_capability: str
    driver: str
    settings: Mapping[str, Any]
    builder_revision: int = BUILDER_REVISION

    @property
    def digest(self) -> str:
        """The SHA-256 of the key as canonical JSON, in 64 hex digits."""
        text = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class ReadyPlan:
    """A plan to load. `origin` is "cached", or "artefact": it brings its own."""

    path: Path
    origin: str


def plan_key(artefact: Artefact, product: Product, gpu: Gpu) -> PlanKey:
    """Return the key of the plan that `product` builds from the artefact's graph for `gpu`.

    Raises ArtefactError when the artefact has no graph.
    """
    artefact.file(GRAPH_FILE)
    return PlanKey(
        graph_sha256=artefact.manifest.files[GRAPH_FILE].sha256,
        product=product.info.name,
        version=product.version,
        gpu=gpu.name,
        compute_capability=gpu.compute_capability,
        driver=gpu.driver,
        settings=settings_of(artefact, product, gpu).to_record(),
    )


def describe_key(key: PlanKey) -> str:
    """Return the key in words: `TensorRT 11.4.0 for Orin (compute capability 8.7), driver for CUDA 13.0, int8, ...`."""
    batch = key.settings["batch"]
    return (
        f"{key.product} {key.version} for {key.gpu} (compute capability {key.compute_capability}), driver for CUDA "
        f"{key.driver}, {key.settings['precision']}, batch {batch['min']}:{batch['opt']}:{batch['max']}, "
        f"graph {key.graph_sha256[:12]}"
    )


def settings_of(artefact: Artefact, product: Product, gpu: Gpu) -> BuildSettings:
    """Return how the artefact's engine is built on this machine: for its GPU alone where the product takes targets."""
    targets = (gpu.compute_capability,) if product.info.format == "trt-rtx" else ()
    return BuildSettings(artefact.manifest.precision, artefact.manifest.batch, targets)


def cached_plan(artefact: Artefact, product: Product, gpu: Gpu) -> Path:
    """Return where the artefact's plan is cached, whether or not it is there; the folder is made.

    Raises ResourceError when the cache cannot be used, ArtefactError when the artefact has no graph.
    """
    return cache_folder(CACHE_NAME) / _file_name(artefact, product, gpu)


def whole_cached_plan(artefact: Artefact, product: Product, gpu: Gpu) -> Path | None:
    """Return the artefact's plan in the cache where it is there and whole, else None; nothing is made.

    Raises what cached_plan raises.
    """
    folder = existing_cache_folder(CACHE_NAME)
    path = folder and folder / _file_name(artefact, product, gpu)
    return path if path and is_whole(path) else None


def ready_plan(artefact: Artefact, product: Product, gpu: Gpu) -> Path:
    """Return the plan to load: the cached one, else the artefact's own where it fits this machine.

    Raises MissingCapabilityError when there is neither, naming `edgeline build`; ResourceError when the cache cannot be
    used, ArtefactError when the artefact's own file is no plan.
    """
    found, why = find_plan(artefact, product, gpu)
    if found is None:
        raise MissingCapabilityError(f"{why}: edgeline build {artefact.folder}")
    return found.path


def find_plan(artefact: Artefact, product: Product, gpu: Gpu) -> tuple[ReadyPlan | None, str]:
    """Return the plan that ready_plan takes, or None and why there is none. Raises what ready_plan raises besides.

    The cached one comes first: where the artefact brings one too, it was built because that one had failed, or did not
    fit. A device whose cache cannot be used runs the artefact's own all the same.
    """
    brings = artefact.manifest.build == "built"
    unusable = None
    try:
        cached = whole_cached_plan(artefact, product, gpu)
    except ResourceError as error:
        if not brings:
            raise
        cached, unusable = None, error
    if cached is not None:
        return ReadyPlan(cached, "cached"), ""
    reason = "is built on the device"
    if brings:
        try:
            misfits = own_misfits(artefact, product, gpu)
        except ArtefactError as error:
            raise ArtefactError(f"{error}: edgeline build {artefact.folder}") from None
        if not misfits:
            return ReadyPlan(artefact.file(product.info.plan_file), "artefact"), ""
        reason = f"has an engine that does not fit here ({'; '.join(misfits)})"
    if unusable is not None:
        raise unusable
    state = "the one in the cache is damaged" if _is_damaged(artefact, product, gpu) else "none is cached"
    here = f"for {product.title} on {gpu.name} (driver for CUDA {gpu.driver})"
    return None, f"{artefact.name} {reason}, and {state} {here}"


def own_misfits(artefact: Artefact, product: Product, gpu: Gpu) -> list[str]:
    """Say why the plan that a "built" artefact brings does not fit this machine; nothing where it does.

    Raises ArtefactError when the file is missing or no plan.
    """
    path = artefact.file(product.info.plan_file)
    header, size_bytes = header_of_file(path)
    return [
        *size_misfits(header, size_bytes),
        *product_misfits(header, product.info.name, product.version),
        *target_misfits(targets_of(header, artefact.manifest), gpu),
    ]


def header_of_file(path: Path) -> tuple[PlanHeader, int]:
    """Read a plan's header; return it with the size of the file in bytes. Raises ArtefactError when it is no plan."""
    with path.open("rb") as stream:
        head = stream.read(HEADER_BYTES)
    return read_plan_header(head, str(path)), path.stat().st_size


def targets_of(header: PlanHeader, manifest: Manifest | None) -> tuple[str, ...]:
    """Return the compute capabilities that a plan runs on: by its header, else by its manifest, else unknown ()."""
    told = manifest.target if manifest else {}
    listed = told.get("compute_capabilities") or [told.get("compute_capability")]
    return header.targets or tuple(str(target) for target in listed if target)


def is_whole_plan(header: PlanHeader, size_bytes: int) -> bool | None:
    """Say whether the file has the size that its header tells; None where nobody knows.

    Of TensorRT-RTX's header it is known that it tells; of TensorRT's it is not, so that only a match says something.
    """
    if size_bytes == header.total_bytes:
        return True
    return False if header.product == "TensorRT-RTX" else None


def size_misfits(header: PlanHeader, size_bytes: int) -> list[str]:
    """Say whether the file is shorter or longer than its header tells."""
    if is_whole_plan(header, size_bytes) is not False:
        return []
    return [f"it has {size_bytes} bytes where its header tells {header.total_bytes}"]


def product_misfits(header: PlanHeader, product: str, version: str) -> list[str]:
    """Say whether another product, or another version of it, made the plan; plans load in their own version only."""
    made_by = f"{header.product} {header.version}"
    if header.product != product:
        return [f"it was made by {made_by}, {product} is needed"]
    if not is_same_version(header.version, version):
        return [f"it was made by {made_by}, here is {version}"]
    return []


def target_misfits(targets: tuple[str, ...], gpu: Gpu) -> list[str]:
    """Say whether the plan was built for other GPUs; where its targets are unknown, only loading can tell."""
    if not targets or gpu.compute_capability in targets:
        return []
    return [f"it was built for compute capability {', '.join(targets)}, {gpu.name} has {gpu.compute_capability}"]


def is_same_version(one: str, other: str) -> bool:
    """Compare two versions as far as both go: some builds of TensorRT call themselves 10.3.0, their plans 10.3.0.30."""
    pairs = list(zip(one.split("."), other.split("."), strict=False))
    return len(pairs) >= 3 and all(a == b for a, b in pairs)


def _file_name(artefact: Artefact, product: Product, gpu: Gpu) -> str:
    return f"{plan_key(artefact, product, gpu).digest}{Path(product.info.plan_file).suffix}"


def _is_damaged(artefact: Artefact, product: Product, gpu: Gpu) -> bool:
    folder = existing_cache_folder(CACHE_NAME)
    return folder is not None and is_cached(folder / _file_name(artefact, product, gpu))
