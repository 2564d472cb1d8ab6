"""The gate: an export that is not as good as its source is not written.

It runs every sample through the source and through the exported form and compares. It does not repair anything and
has no off switch; `--max-drop` says how much may be lost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeline.command import note
from edgeline.errors import GateError, InputError
from edgeline_export.paired import paired_accuracy
from edgeline_export.subject import Reference, Subject

# The largest difference of a logit that the precision explains, relative to the largest logit: in fp32 another order of
# summation, in tf32 and fp16 10 bits of mantissa through some ten layers. bf16 has 7 bits, and the sums are float32: on
# OpenVINO LeNet's logits move by 0.3 % and AlexNet's by 0.1 %, ten times that is allowed. What int8 does to a logit has
# no such bound: accuracy judges it, and the self-test allows what quantisation itself did on these samples, or this
# share at least.
RELATIVE_TOLERANCE = {"fp32": 1e-4, "tf32": 2e-2, "fp16": 2e-2, "bf16": 4e-2}
_INT8_SHARE = 2e-2
# One float a sample has no class to agree on: in int8 too it must stay this near, relative to the largest.
_SINGLE_SHARE = 5e-2
_CHUNK = 64
_NOTE_EVERY = 1024


@dataclass(frozen=True, slots=True)
class Verification:
    """What the gate found; SCHEMAS of the manifest's `verification`. None where there are no labels."""

    engine: str
    reference_engine: str
    data: str
    samples: int
    max_abs_diff: float
    top1_agreement: float
    accuracy_reference: float | None
    accuracy_exported: float | None
    drop: float | None
    drop_ci95: tuple[float, float] | None
    mcnemar_p: float | None
    max_drop: float

    def to_record(self) -> Mapping[str, Any]:
        """Return the manifest's record."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Judged:
    """A verification with the exported form's outputs on all samples, and the tolerance that held."""

    verification: Verification
    outputs: npt.NDArray[Any]
    tolerance: float


def verify(
    subject: Subject, exported: Reference, engine: str, precision: str, sizes: Sequence[int], max_drop: float
) -> Judged:
    """Run all samples through source and export; raise GateError when the export is not good enough.

    `exported` computes the exported form's outputs for any number of samples, as `subject.reference` does the source's:
    both cut and fill up by themselves where a batch is fixed. Each of the batch sizes `sizes` is run once, so that a
    shape that was frozen on the way shows now and not on the device.
    """
    labels = subject.samples.labels
    before = _outputs(subject, subject.reference, f"source ({subject.reference_engine})")
    after = _outputs(subject, exported, f"export ({engine})")
    _check_shapes(before, after)
    _check_classes(subject, before)
    if not np.isfinite(after).all():
        bad = int((~np.isfinite(after)).reshape(len(after), -1).any(axis=1).sum())
        raise GateError(f"the export gives NaN or infinity for {bad} of {len(after)} samples; nothing was written")
    difference = float(np.abs(after.astype(np.float64) - before).max())
    scale = max(1.0, float(np.abs(before).max()))
    share = RELATIVE_TOLERANCE.get(precision)
    if share is None and before[0].size == 1 and before.dtype.kind == "f":
        share = _SINGLE_SHARE
    tolerance = max(difference, _INT8_SHARE * scale) if share is None else share * scale
    _check_batches(subject, exported, after, sizes, tolerance)
    right_class = _classes(before), _classes(after)
    pair = None if labels is None else paired_accuracy(right_class[0] == labels, right_class[1] == labels)
    result = Verification(
        engine=engine,
        reference_engine=subject.reference_engine,
        data=subject.samples.data,
        samples=len(before),
        max_abs_diff=difference,
        top1_agreement=float(np.mean(right_class[0] == right_class[1])),
        accuracy_reference=None if pair is None else pair.reference,
        accuracy_exported=None if pair is None else pair.other,
        drop=None if pair is None else pair.drop,
        drop_ci95=None if pair is None else pair.drop_ci95,
        mcnemar_p=None if pair is None else pair.mcnemar_p,
        max_drop=max_drop,
    )
    _judge(result, tolerance, precision)
    return Judged(result, after, tolerance)


def _classes(outputs: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return each sample's class: the place of its largest number, or the one whole number that it has (ArgMax)."""
    flat = outputs.reshape(len(outputs), -1)
    return flat[:, 0] if flat.shape[1] == 1 and flat.dtype.kind in "iu" else flat.argmax(axis=1)


def _judge(result: Verification, tolerance: float, precision: str) -> None:
    if result.drop is not None and result.drop > max_drop_slack(result.max_drop):
        raise GateError(
            f"accuracy falls from {result.accuracy_reference:.4f} to {result.accuracy_exported:.4f} on {result.data}, "
            f"{result.drop:.4f} where {result.max_drop} is allowed; nothing was written (--max-drop raises the limit)"
        )
    if result.max_abs_diff > tolerance:
        raise GateError(
            f"a logit differs by {result.max_abs_diff:.3g} from the source's where {precision} allows {tolerance:.3g}; "
            "nothing was written"
        )
    if result.drop is None and 1 - result.top1_agreement > max_drop_slack(result.max_drop):
        raise GateError(
            f"the export agrees with its source on {result.top1_agreement:.4f} of {result.data}, "
            f"at least {1 - result.max_drop} is asked for; nothing was written (--max-drop raises the limit)"
        )


def max_drop_slack(max_drop: float) -> float:
    """Return the limit with room for the rounding of a quotient: 20 of 2,000 is not above 0.01."""
    return max_drop + 1e-12


def _outputs(subject: Subject, run: Reference, what: str) -> npt.NDArray[Any]:
    """Run all samples in chunks."""
    pieces, count = [], len(subject.samples)
    note(f"running {count:,} samples ({subject.samples.data}) through the {what}")
    for start in range(0, count, _CHUNK):
        pieces.append(run(subject.samples.batch(start, min(start + _CHUNK, count))))
        if start and start % _NOTE_EVERY == 0:
            note(f"  {start:,} of {count:,}")
    return np.concatenate(pieces)


def _check_shapes(before: npt.NDArray[Any], after: npt.NDArray[Any]) -> None:
    if before.shape != after.shape:
        raise GateError(f"the export gives {list(after.shape)}, its source {list(before.shape)}; nothing was written")
    if not np.isfinite(before).all():
        raise GateError("the source itself gives NaN or infinity on these samples; nothing was written")


def _check_classes(subject: Subject, outputs: npt.NDArray[Any]) -> None:
    """Labels say nothing about a network of other classes: an accuracy from them would be a made-up figure."""
    samples, classes = subject.samples, outputs[0].size
    if samples.label_names is not None and len(samples.label_names) != classes:
        raise InputError(
            f"{subject.name} has {classes} outputs, {samples.data} has {len(samples.label_names)} classes; "
            "leave --dataset out, or give --samples of its own"
        )
    if samples.labels is not None and not 0 <= samples.labels.min() <= samples.labels.max() < classes:
        raise InputError(
            f"{samples.data} holds labels from {samples.labels.min()} to {samples.labels.max()}, "
            f"{subject.name} has classes 0 to {classes - 1}"
        )


def _check_batches(
    subject: Subject, exported: Reference, expected: npt.NDArray[Any], sizes: Sequence[int], tolerance: float
) -> None:
    for size in sizes:
        index = np.arange(size) % len(subject.samples)
        inputs = np.concatenate([subject.samples.batch(int(i), int(i) + 1) for i in index])
        try:
            found = exported(inputs)
        except Exception as error:
            raise GateError(
                f"the export fails at batch {size}: {str(error).splitlines()[0]}; nothing was written"
            ) from error
        if found.shape != expected[index].shape or not np.allclose(found, expected[index], rtol=0, atol=tolerance):
            raise GateError(f"the export gives other outputs at batch {size} than at {_CHUNK}; nothing was written")
