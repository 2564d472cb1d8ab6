"""The double's plans: a true header, then what the double needs to run them, as JSON, then the ONNX graph itself."""

from __future__ import annotations

import json
import struct
from dataclasses import asdict, dataclass, field
from typing import Any

from edgeline.tensorrt.plan_header import HEADER_BYTES
from tests.doubles.world import Flavour

_TARGET_BITS = {"7.5": 0, "8.0": 1, "8.6": 2, "8.9": 3, "12.0": 4, "12.1": 5}
_DEFAULT_TARGETS = ("8.0", "8.6", "8.9", "12.0", "12.1")


@dataclass(frozen=True, slots=True)
class PlanRecord:
    """What a plan of the double knows. `profile` is (min, opt, max) of the input's shape, or None if it is fixed."""

    profile: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]] | None
    flags: tuple[str, ...]
    strongly_typed: bool
    compute_capability: str | None  # of the GPU that TensorRT built on; TensorRT-RTX names its targets instead
    activation_bytes: int
    verbosity: str = "LAYER_NAMES_ONLY"
    extra: dict[str, Any] = field(default_factory=dict)


def pack_plan(flavour: Flavour, record: PlanRecord, graph: bytes, targets: tuple[str, ...] = ()) -> bytes:
    """Return the bytes of a plan."""
    body = json.dumps(asdict(record)).encode()
    payload = struct.pack("<I", len(body)) + body + graph
    version = [int(part) for part in flavour.version.split(".")]
    mask = sum(1 << _TARGET_BITS[target] for target in targets or _DEFAULT_TARGETS) if flavour.rtx else 0
    head = struct.pack("<II8xQ4B4xI", flavour.tag, 0, HEADER_BYTES + len(payload), *version, mask)
    return head.ljust(HEADER_BYTES, b"\0") + payload


def unpack_plan(plan: bytes) -> tuple[PlanRecord, bytes]:
    """Return a plan's record and its graph. Raises ValueError when the bytes are no whole plan of the double."""
    try:
        (total,) = struct.unpack_from("<Q", plan, 16)
        (length,) = struct.unpack_from("<I", plan, HEADER_BYTES)
        record = json.loads(plan[HEADER_BYTES + 4 : HEADER_BYTES + 4 + length])
    except (struct.error, ValueError) as error:
        raise ValueError(f"no plan: {error}") from None
    if total != len(plan):
        raise ValueError(f"{len(plan)} bytes, expected {total}")
    profile = record.pop("profile")
    shapes = None if profile is None else tuple(tuple(shape) for shape in profile)
    flags = tuple(record.pop("flags"))
    return PlanRecord(profile=shapes, flags=flags, **record), plan[HEADER_BYTES + 4 + length :]  # type: ignore[arg-type]


def version_of(plan: bytes) -> str:
    """Return the version in a plan's header."""
    return ".".join(str(part) for part in plan[24:28])


def tag_of(plan: bytes) -> int:
    """Return the tag in a plan's header."""
    return int.from_bytes(plan[:4], "little")


def targets_of(plan: bytes) -> tuple[str, ...]:
    """Return the targets in the header of a plan of TensorRT-RTX."""
    (mask,) = struct.unpack_from("<I", plan, 32)
    return tuple(name for name, bit in _TARGET_BITS.items() if mask >> bit & 1)
