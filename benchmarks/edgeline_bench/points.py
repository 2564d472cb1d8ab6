"""What is measured: a point is one engine at one batch size. From artefacts and options to the list of points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edgeline.artefact import GRAPH_FILE, Artefact
from edgeline.backends import choose_engine
from edgeline.command import note
from edgeline.errors import InputError
from edgeline.files import sha256_of_file
from edgeline_bench.footprint import deployed_bytes, engine_bytes
from edgeline_bench.scenarios import check_batch, scenario_from_name
from edgeline_train.models import model_from_name
from edgeline_train.models.weights import DEFAULT_FOLDER, SUFFIX

# Engines that have no CPU form; all others are timed on the CPU, beside eager PyTorch there.
_DEVICES = {"tensorrt": "cuda", "onnxruntime-tensorrt": "cuda"}
COMPILED = "torch-compile"
_ORIGINS = {"onnx": "an .onnx file", "factory": "a factory"}


@dataclass(frozen=True, slots=True)
class Point:
    """One engine at one batch size. `name` is the artefact's, or for eager the trained network's.

    `precision` is the graph's, `arithmetic` what the engine computes it in. `deployed_bytes` and `engine_bytes` are
    edgeline_bench.footprint's.
    """

    engine: str
    name: str
    host: str
    precision: str
    batch: int
    threads: int
    pinned: tuple[int, ...]
    device: str = "cpu"
    arithmetic: str = "fp32"
    format: str = ""
    folder: str = ""
    graph_sha256: str = ""
    accuracy: float | None = None
    accuracy_reference: float | None = None  # of the network that the artefact was exported from
    artefact_bytes: int | None = None
    deployed_bytes: int | None = None
    engine_bytes: int | None = None
    source_key: str = ""
    source: Mapping[str, Any] = field(default_factory=dict)
    scenario: str = "single-stream"
    rate_per_s: float | None = None  # of a server's queries; None: to be searched for
    slowdown: float = 0.0  # a share of each call's time that is wasted on purpose: edgeline_bench.slowdown
    optional: bool = False  # where it does not start, the run goes on without it, and says so

    @property
    def title(self) -> str:
        """How people and plots call it."""
        scenario = "" if self.scenario == "single-stream" else f" {self.scenario}"
        return f"{self.engine} {self.name}{scenario} batch {self.batch}"

    def spec(self) -> dict[str, Any]:
        """Return what the worker needs, as plain JSON."""
        return {
            "host": self.host, "engine": self.engine, "batch": self.batch, "threads": self.threads,
            "pinned": list(self.pinned), "device": self.device, "format": self.format, "folder": self.folder,
            "source": dict(self.source), "scenario": self.scenario, "slowdown": self.slowdown,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class PointOptions:
    """What the command line says about all points."""

    batches: tuple[int, ...]
    threads: int
    pinned: tuple[int, ...]
    weights: Path | None
    factory: str | None
    engine: str | None = None
    scenarios: tuple[str, ...] = ("single-stream",)
    rate_per_s: float | None = None
    slowdown: float = 0.0

    def rows(self, fixed: int) -> list[tuple[str, int]]:
        """Return each scenario with each batch size it is run at; `fixed` is the graph's own size, -1 for none.

        Scenarios whose queries have a size of their own take the largest batch that a query can be made of. Raises
        InputError where none of them is one.
        """
        rows = []
        for name in self.scenarios:
            allowed = scenario_from_name(name).batches
            sizes = self.batches if fixed == -1 else (fixed,)
            if allowed is None:
                rows += [(name, size) for size in sizes]
                continue
            fitting = [size for size in sizes if size in allowed]
            if not fitting and (fixed != -1 or len(self.scenarios) == 1):
                check_batch(name, max(sizes))
            rows.append((name, max(fitting or allowed)))  # of several scenarios, each takes what it can
        return rows


def points_of_artefact(artefact: Artefact, options: PointOptions) -> list[Point]:
    """Return the artefact's own points, on its format's engine unless `options` name another.

    Raises InputError for a batch size that its graph does not take, and for an engine that does not run its format.
    """
    manifest = artefact.manifest
    engine = choose_engine(manifest.format, options.engine)
    fixed = manifest.inputs[0].shape[0]
    wrong = [size for size in options.batches if fixed not in (-1, size)]
    if wrong:
        raise InputError(f"{artefact.name} takes batches of {fixed} only, not {wrong[0]}; give --batch {fixed}")
    device, sizes = _DEVICES.get(engine, "cpu"), manifest.batch
    rows = options.rows(fixed)
    beyond = [size for _, size in rows if device == "cuda" and not sizes.min <= size <= sizes.max]
    if beyond and fixed == -1:
        raise InputError(
            f"{artefact.name} takes batches of {sizes.min} to {sizes.max} on {engine}, not {beyond[0]}; "
            f"give --batch {','.join(map(str, dict.fromkeys((sizes.min, sizes.opt, sizes.max))))}"
        )
    installed = engine_bytes(engine)
    return [
        Point(
            engine=engine,
            name=artefact.name,
            host="session",
            precision=manifest.precision,
            arithmetic=arithmetic_of(artefact, engine, device),
            batch=size,
            threads=options.threads,
            pinned=options.pinned,
            device=device,
            format=manifest.format,
            folder=str(artefact.folder.resolve()),
            graph_sha256=manifest.files[GRAPH_FILE].sha256,
            accuracy=manifest.verification.get("accuracy_exported"),
            accuracy_reference=manifest.verification.get("accuracy_reference"),
            artefact_bytes=artefact.total_bytes,
            deployed_bytes=deployed_bytes(artefact, engine, size),
            engine_bytes=installed,
            source_key=source_key(artefact),
            scenario=scenario,
            rate_per_s=options.rate_per_s,
            slowdown=options.slowdown,
        )
        for scenario, size in rows
    ]


def arithmetic_of(artefact: Artefact, engine: str, device: str) -> str:
    """Say in what an engine computes an artefact's graph: its precision, but for ONNX Runtime's CPU provider.

    That computes float16 in float32, and an int8 graph in the layout for TensorRT as float32 with quantised values.
    """
    manifest = artefact.manifest
    in_integers = manifest.precision == "int8" and manifest.format in ("onnx", "c")
    return "fp32" if (engine, device) == ("onnxruntime", "cpu") and not in_integers else manifest.precision


def baseline_points(artefacts: Sequence[Artefact], options: PointOptions) -> list[Point]:
    """Return eager PyTorch's points: one network per source of the artefacts, however many forms it has.

    An artefact made from an .onnx file has no eager form, and a factory is called only when the user names it: a
    manifest must not decide what code runs. Both are said, and such artefacts are measured without a baseline.
    """
    points: dict[str, list[Point]] = {}
    for artefact in artefacts:
        manifest, source = artefact.manifest, dict(artefact.manifest.source)
        if source["kind"] == "model":
            source["weights"] = str(_weights_of(artefact, options.weights).resolve())
        elif source["kind"] == "factory" and options.factory:
            source["factory"] = options.factory
        else:
            way_on = "name it with --factory package.module:factory" if source["kind"] == "factory" else "there is none"
            origin = _ORIGINS.get(source["kind"], "elsewhere")
            note(f"{artefact.name} was made from {origin}: no eager baseline ({way_on})")
            continue
        key = source_key(artefact)
        on_disk = Path(source["weights"]).stat().st_size if "weights" in source else None
        name = f"{manifest.name}{f'-{manifest.dataset}' if manifest.dataset else ''}"
        if any(group[0].name == name for other, group in points.items() if other != key):
            name = f"{name}@{key[:8]}"  # the same network from other weights: rows are told apart by name
        points.setdefault(
            key,
            [
                Point(
                    engine="eager",
                    name=name,
                    host="eager",
                    precision="fp32",
                    batch=size,
                    threads=options.threads,
                    pinned=options.pinned,
                    folder=str(artefact.folder.resolve()),
                    graph_sha256=manifest.files[GRAPH_FILE].sha256,
                    accuracy=manifest.verification.get("accuracy_reference"),
                    artefact_bytes=on_disk,
                    deployed_bytes=on_disk,
                    engine_bytes=engine_bytes("eager"),
                    accuracy_reference=manifest.verification.get("accuracy_reference"),
                    source=source,
                    source_key=key,
                    scenario=scenario,
                    rate_per_s=options.rate_per_s,
                )
                for scenario, size in options.rows(manifest.inputs[0].shape[0])
            ],
        )
    return [point for group in points.values() for point in group]


def compiled_points(baseline: Sequence[Point]) -> list[Point]:
    """Return torch.compile's points, for the networks of eager PyTorch's."""
    return [replace(point, engine=COMPILED, host=COMPILED, optional=True) for point in baseline]


def source_key(artefact: Artefact) -> str:
    """Return what two artefacts share when they are forms of the same network: its weights, else its graph."""
    return str(artefact.manifest.source["weights_sha256"] or artefact.manifest.files[GRAPH_FILE].sha256)


def reference_point(pinned: tuple[int, ...]) -> Point:
    """Return the reference kernel's point: one thread, on the first of the pinned cores."""
    return Point("reference", "kernel", "reference", "fp32", 1, 1, pinned[:1])


def _weights_of(artefact: Artefact, given: Path | None) -> Path:
    """Find the weights that an artefact was exported from, by their hash."""
    wanted = artefact.manifest.source["weights_sha256"]
    model = model_from_name(str(artefact.manifest.source.get("model")))
    where = given or DEFAULT_FOLDER
    candidates = sorted(where.glob(f"{model.name}-*{SUFFIX}")) if where.is_dir() else [where]
    for path in candidates:
        if path.is_file() and sha256_of_file(path) == wanted:
            return path
    raise InputError(
        f"the eager baseline needs the weights that {artefact.name} was exported from, and {where} does not hold them; "
        "name them with --weights, export again, or leave the baseline out with --baseline none"
    )
