"""One arena for all activations: every tensor gets a place that nobody else uses while it is alive.

Greedy by size, as Pisarchyk and Lee describe it ("Efficient Memory Management for Deep Neural Net Inference", 2020,
section 5.2): the largest tensor first, each at the lowest offset that is free during its life.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgeline_export.c.program import ALIGNMENT


@dataclass(frozen=True, slots=True)
class Life:
    """A tensor's bytes, and the first and last step (both included) during which it is alive."""

    name: str
    bytes: int
    first: int
    last: int


def plan_arena(lives: Sequence[Life]) -> tuple[dict[str, int], int]:
    """Return the offset of each tensor, a multiple of ALIGNMENT, and the bytes of the whole arena."""
    placed: list[tuple[Life, int]] = []
    for life in sorted(lives, key=lambda life: (-life.bytes, life.first, life.name)):
        placed.append((life, _lowest_place(life, placed)))
    total = max((offset + _rounded(life.bytes) for life, offset in placed), default=0)
    return {life.name: offset for life, offset in placed}, total


def place_beside(life: Life, lives: Sequence[Life], offsets: Mapping[str, int]) -> tuple[int, int]:
    """Return the offset of one more tensor beside those of a plan, and the bytes that the arena then needs."""
    at = _lowest_place(life, [(other, offsets[other.name]) for other in lives])
    ends = [offsets[other.name] + _rounded(other.bytes) for other in lives]
    return at, max([*ends, at + _rounded(life.bytes)])


def _lowest_place(life: Life, placed: Sequence[tuple[Life, int]]) -> int:
    beside = sorted(
        (offset, offset + _rounded(other.bytes))
        for other, offset in placed
        if other.first <= life.last and life.first <= other.last
    )
    at = 0
    for begin, end in beside:
        if at + life.bytes <= begin:
            break
        at = max(at, end)
    return at


def _rounded(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
