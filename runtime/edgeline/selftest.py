"""The self-test that every artefact carries: real inputs, the logits they must give, and the tolerance.

It proves that this device computes what the exporter verified. It does not measure accuracy: 16 inputs cannot.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeline.artefact import SELFTEST_FILE, Artefact
from edgeline.errors import ArtefactError, GateError, InputError
from edgeline.images import arrays_from_npz
from edgeline.session import Session


@dataclass(frozen=True, slots=True)
class SelftestResult:
    """What the self-test found: the largest absolute difference of any logit, and what is allowed."""

    samples: int
    max_abs_diff: float
    tolerance: float
    top1_agreement: float


@dataclass(frozen=True, slots=True, eq=False)
class Selftest:
    """What selftest.npz holds: `inputs` as the network takes them, the `logits` they must give, the tolerance."""

    inputs: npt.NDArray[Any]
    logits: npt.NDArray[Any]
    tolerance: float


def read_selftest(artefact: Artefact) -> Selftest:
    """Read the self-test of an artefact.

    Raises ArtefactError when it is damaged.
    """
    path = artefact.file(SELFTEST_FILE)
    try:
        arrays = arrays_from_npz(path)
        selftest = Selftest(arrays["inputs"], arrays["logits"], float(arrays["tolerance"]))
    except (InputError, KeyError, ValueError, TypeError) as error:
        raise ArtefactError(f"{path} is damaged: {error}; export the artefact again with export-model") from None
    if not np.isfinite(selftest.inputs).all() or not np.isfinite(selftest.logits).all():
        raise ArtefactError(f"{path} holds NaN or infinity; export the artefact again with export-model")
    return selftest


def run_selftest(session: Session, selftest: Selftest | None = None) -> SelftestResult:
    """Run the artefact's own inputs through `session` and hold them against the stored logits.

    A program that tests itself again and again reads `selftest` once, and then needs the artefact's folder no more.

    Raises GateError when an output is not finite or a logit is off by more than the tolerance, ArtefactError when
    selftest.npz is damaged.
    """
    given = read_selftest(session.artefact) if selftest is None else selftest
    inputs, expected, tolerance = given.inputs, given.logits, given.tolerance
    found = session.infer_all(inputs)
    name = session.artefact.name
    if not np.isfinite(found).all():
        raise GateError(f"self-test of {name} on {session.engine} failed: an output is NaN or infinite")
    difference = float(np.abs(found.astype(np.float64) - expected).max())
    if difference > tolerance:
        raise GateError(
            f"self-test of {name} on {session.engine} failed: a logit is off by {difference:.3g}, "
            f"allowed {tolerance:.3g}"
        )
    flat_found, flat_expected = (array.reshape(len(inputs), -1) for array in (found, expected))
    agreement = float(np.mean(flat_found.argmax(axis=1) == flat_expected.argmax(axis=1)))
    return SelftestResult(len(inputs), difference, tolerance, agreement)
