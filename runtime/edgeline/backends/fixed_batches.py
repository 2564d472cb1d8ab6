"""For engines whose compiled form has fixed shapes: how any number of samples is run in the batch sizes there are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt


def pieces_of(count: int, sizes: Sequence[int]) -> list[int]:
    """Return the batch sizes, of those in `sizes`, that run `count` samples: the size itself where it is one of them.

    Else the largest that fit, and at the end the smallest that holds what is left, which the caller fills up.
    """
    pieces = []
    while count > 0:
        fitting = [size for size in sizes if size <= count]
        pieces.append(max(fitting) if fitting else min(sizes))
        count -= pieces[-1]
    return pieces


def run_in_pieces(
    batch: npt.NDArray[Any], sizes: Sequence[int], run: Callable[[npt.NDArray[Any]], npt.NDArray[Any]]
) -> npt.NDArray[Any]:
    """Run float32 [n, ...] by `run`, which takes batches of `sizes` only, and return its outputs in order.

    The last piece is filled up with copies of its last sample, whose outputs are dropped.
    """
    found, start = [], 0
    for size in pieces_of(len(batch), sizes):
        piece = batch[start : start + size]
        start += size
        missing = size - len(piece)
        filled = np.concatenate([piece, np.repeat(piece[-1:], missing, axis=0)]) if missing else piece
        found.append(run(np.ascontiguousarray(filled))[: len(piece)])
    return found[0] if len(found) == 1 else np.concatenate(found)
