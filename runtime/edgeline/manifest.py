"""manifest.json: what an artefact says about itself, as frozen records, read and checked.

It does not touch the other files of the artefact: `edgeline.artefact` does.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from edgeline.errors import ArtefactError

# History of the schema:
# 1  2026-11  the first; `compilation` was added with the formats that compile, `pad` (absent: null) to `preprocessing`
#             with the networks that take padded images; in `compilation`, `board`, `network` and `image` with boards
SCHEMA_VERSION = 1
FILE_NAME = "manifest.json"

SOURCE_KEYS = ("kind", "weights_sha256")
COVERAGE_KEYS = ("source", "macs", "weights")
VERIFICATION_KEYS = (
    "engine", "data", "samples", "max_abs_diff", "top1_agreement", "accuracy_reference", "accuracy_exported",
)  # fmt: skip
DTYPES = ("float32", "float16", "int8", "uint8", "int32", "int64")


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output: its name in the graph, its shape with -1 for the batch, its dtype."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    layout: str | None = None


@dataclass(frozen=True, slots=True)
class BatchRange:
    """The batch sizes that the export was verified at: smallest, most used, largest."""

    min: int = 1
    opt: int = 8
    max: int = 64


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How uint8 pixels become the network's input: (pad(resize(pixels)) * scale - mean) / std, per channel.

    `pad` is the number of rows and of columns of black (pixel 0) that are added on each side.
    """

    resize: tuple[int, int] | None
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    pad: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class FileEntry:
    """The hash and the size of one file of the artefact."""

    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """The whole manifest. Records that only people and reports read stay plain mappings."""

    name: str
    dataset: str | None
    precision: str
    format: str
    build: str
    created: str
    versions: Mapping[str, str]
    files: Mapping[str, FileEntry]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    batch: BatchRange
    preprocessing: Preprocessing | None
    labels: tuple[str, ...] | None
    source: Mapping[str, Any]
    verification: Mapping[str, Any]
    precision_coverage: Mapping[str, Any]
    target: Mapping[str, Any] = field(default_factory=dict)
    calibration: Mapping[str, Any] | None = None
    compilation: Mapping[str, Any] | None = None
    schema_version: int = SCHEMA_VERSION

    def to_json(self) -> str:
        """Return the manifest as indented JSON that ends with a newline."""
        return json.dumps(asdict(self), indent=2) + "\n"


def manifest_from_file(path: Path) -> Manifest:
    """Read and check `path`.

    Raises ArtefactError when it is missing, is not JSON, is of another schema or lacks a key.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ArtefactError(f"{path.parent} is not an artefact: it has no {FILE_NAME}") from None
    except (ValueError, UnicodeDecodeError) as error:
        raise ArtefactError(f"{path} is damaged: {error}; export it again with export-model") from None
    if not isinstance(record, dict):
        raise ArtefactError(f"{path} is not a manifest: it holds a {type(record).__name__}, not an object")
    version = record.get("schema_version")
    if version != SCHEMA_VERSION:
        raise ArtefactError(
            f"{path} has schema_version {version!r}, this edgeline reads {SCHEMA_VERSION}; "
            "export it again with export-model"
        )
    try:
        return _manifest_from_record(record)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        what = f"lacks the key {error}" if isinstance(error, KeyError) else f"has a bad value ({error})"
        raise ArtefactError(f"{path} {what}; export it again with export-model") from None


def _manifest_from_record(record: dict[str, Any]) -> Manifest:
    preprocessing = record["preprocessing"]
    manifest = Manifest(
        name=str(record["name"]),
        dataset=record["dataset"],
        precision=str(record["precision"]),
        format=str(record["format"]),
        build=str(record["build"]),
        created=str(record["created"]),
        versions=dict(record["versions"]),
        files={name: FileEntry(str(e["sha256"]), int(e["bytes"])) for name, e in record["files"].items()},
        inputs=tuple(_tensor_spec(item) for item in record["inputs"]),
        outputs=tuple(_tensor_spec(item) for item in record["outputs"]),
        batch=BatchRange(**{key: int(record["batch"][key]) for key in ("min", "opt", "max")}),
        preprocessing=None if preprocessing is None else _preprocessing(preprocessing),
        labels=None if record["labels"] is None else tuple(str(label) for label in record["labels"]),
        source=dict(record["source"]),
        verification=dict(record["verification"]),
        precision_coverage=dict(record["precision_coverage"]),
        target=dict(record.get("target") or {}),
        calibration=record.get("calibration"),
        compilation=record.get("compilation"),
    )
    _check(manifest)
    return manifest


def _check(manifest: Manifest) -> None:
    """Raise ValueError or KeyError where values that others rely on do not fit together."""
    if len(manifest.inputs) != 1 or len(manifest.outputs) != 1:
        raise ValueError(f"{len(manifest.inputs)} inputs and {len(manifest.outputs)} outputs, expected one of each")
    if not 1 <= manifest.batch.min <= manifest.batch.opt <= manifest.batch.max:
        raise ValueError(f"batch {manifest.batch}, expected 1 <= min <= opt <= max")
    classes = manifest.outputs[0].shape[-1]
    if manifest.labels is not None and len(manifest.labels) != classes:
        raise ValueError(f"{len(manifest.labels)} labels for {classes} outputs")
    _check_pad(manifest)
    if any("\0" in name for name in manifest.files):
        raise ValueError("a file name with a NUL")
    for section, keys in (
        (manifest.source, SOURCE_KEYS),
        (manifest.verification, VERIFICATION_KEYS),
        (manifest.precision_coverage, COVERAGE_KEYS),
    ):
        missing = [key for key in keys if key not in section]
        if missing:
            raise KeyError(missing[0])


def _check_pad(manifest: Manifest) -> None:
    pad = None if manifest.preprocessing is None else manifest.preprocessing.pad
    size = manifest.inputs[0].shape[2:]
    if pad is not None and not (len(size) == 2 and 2 * pad[0] < size[0] and 2 * pad[1] < size[1]):
        raise ValueError(f"pad {list(pad)} leaves no image in an input of {list(manifest.inputs[0].shape)}")


def _tensor_spec(item: dict[str, Any]) -> TensorSpec:
    spec = TensorSpec(str(item["name"]), tuple(int(d) for d in item["shape"]), str(item["dtype"]), item.get("layout"))
    if spec.dtype not in DTYPES:
        raise ValueError(f"dtype {spec.dtype!r} of '{spec.name}' is none of {', '.join(DTYPES)}")
    if not spec.shape:
        raise ValueError(f"'{spec.name}' has no dimensions")
    return spec


def _preprocessing(item: dict[str, Any]) -> Preprocessing:
    resize, pad = item["resize"], item.get("pad")
    whole = pad is None or (isinstance(pad, list) and all(type(size) is int and size >= 0 for size in pad))
    if not whole or (pad is not None and len(pad) != 2):
        raise ValueError(f"pad {pad!r}, expected two whole numbers of at least 0, or null")
    preprocessing = Preprocessing(
        resize=None if resize is None else (int(resize[0]), int(resize[1])),
        scale=float(item["scale"]),
        mean=tuple(float(v) for v in item["mean"]),
        std=tuple(float(v) for v in item["std"]),
        pad=None if pad is None else (pad[0], pad[1]),
    )
    if not all(value > 0 for value in preprocessing.std):
        raise ValueError(f"std {preprocessing.std}, expected numbers above 0")
    return preprocessing
