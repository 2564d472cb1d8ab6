"""What a plan's first bytes say, read with neither a GPU nor TensorRT: product, version, targets.

Layout, little endian. TensorRT's tag and the version as in trtexec's source (NVIDIA, TensorRT, samples/common); the
rest as found by building the same graph for each compute capability with TensorRT-RTX 1.7.1:

    0   4 bytes  tag: 0x74727466 TensorRT, 0x74727476 TensorRT-RTX
    4   4 bytes  serialisation version, 0
    16  8 bytes  size of the whole file (of TensorRT-RTX; not seen of TensorRT, whose plans need a GPU)
    24  4 bytes  version: major, minor, patch, build
    32  4 bytes  TensorRT-RTX only: one bit per target, see _TARGET_BITS

TensorRT does not document where its plans keep their GPU; of those only product and version are told.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from edgeline.errors import ArtefactError

HEADER_BYTES = 64
_PRODUCT_OF_TAG = {0x74727466: "TensorRT", 0x74727476: "TensorRT-RTX"}
_TARGET_BITS = {0: "7.5", 1: "8.0", 2: "8.6", 3: "8.9", 4: "12.0", 5: "12.1"}


@dataclass(frozen=True, slots=True)
class PlanHeader:
    """A plan's own word. `targets` are compute capabilities, empty where the header does not tell them."""

    product: str
    version: str
    total_bytes: int
    targets: tuple[str, ...]


def read_plan_header(head: bytes, what: str) -> PlanHeader:
    """Read the first HEADER_BYTES of a plan; `what` names it in messages. Raises ArtefactError when it is none."""
    if len(head) < HEADER_BYTES:
        raise ArtefactError(f"{what} is no engine: {len(head)} bytes, a plan's header alone has {HEADER_BYTES}")
    tag, serialisation, total_bytes, major, minor, patch, build, mask = struct.unpack_from("<II8xQ4B4xI", head)
    product = _PRODUCT_OF_TAG.get(tag)
    if product is None:
        raise ArtefactError(f"{what} is no TensorRT engine: it begins with {head[:4]!r}, expected b'ftrt' or b'vtrt'")
    if serialisation != 0:
        raise ArtefactError(f"{what} has the plan layout {serialisation}; this edgeline reads layout 0")
    has_targets = product == "TensorRT-RTX"
    targets = tuple(name for bit, name in _TARGET_BITS.items() if mask >> bit & 1) if has_targets else ()
    return PlanHeader(
        product=product,
        version=f"{major}.{minor}.{patch}.{build}",
        total_bytes=total_bytes,
        targets=targets,
    )
