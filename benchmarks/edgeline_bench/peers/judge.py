"""Whether an engine may be compared: its answers on the test split, beside those of eager PyTorch.

An engine with other answers does other work. In fp32 it must agree with eager; in int8, where each tool rounds in its
own way, it must be as good, by the gate that our own exports pass.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeline_export.paired import paired_accuracy
from edgeline_export.subject import DEFAULT_MAX_DROP

MIN_AGREEMENT = 0.998  # of fp32's labels: of 2,000 digits some lie so near the border that the order of sums decides


@dataclass(frozen=True, slots=True)
class Judgement:
    """Shares (0 to 1) of the same images: right answers, labels that are eager's. `why` not to compare, or None."""

    accuracy: float
    agreement: float
    why: str | None


def judged(
    logits: npt.NDArray[np.float32], reference: npt.NDArray[np.float32], labels: npt.NDArray[np.int64], precision: str
) -> Judgement:
    """Judge logits [N, classes] against eager's, of the same N images with `labels` [N]."""
    found, expected = logits.argmax(axis=1), reference.argmax(axis=1)
    paired = paired_accuracy(expected == labels, found == labels)
    agreement = float((found == expected).mean())
    why = None
    if not np.isfinite(logits).all():
        why = "logits that are not finite"
    elif precision == "fp32" and agreement < MIN_AGREEMENT:
        why = f"only {agreement:.2%} of the labels are eager's"
    elif paired.drop > DEFAULT_MAX_DROP:
        why = f"accuracy drops by {paired.drop:.4f}, more than {DEFAULT_MAX_DROP}"
    return Judgement(paired.other, agreement, why)
