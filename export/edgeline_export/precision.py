"""A subject's float32 graph brought into the precision that was asked for, and checked to be in it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import onnx

from edgeline.command import note
from edgeline.errors import GateError, InputError
from edgeline_export.calibration import Calibration, calibrate, check_fits_half
from edgeline_export.calibration_data import CalibrationData, calibration_data
from edgeline_export.coverage import FLOAT32_GRAPHS, Coverage, check_precision, coverage_of, refuse_uncounted
from edgeline_export.fold import folded
from edgeline_export.formats.interface import DEFAULT_CALIBRATION_METHOD, CalibrationRequest
from edgeline_export.graph import clean_graph, inputs_of
from edgeline_export.half import half, rounded
from edgeline_export.quantise import quantised
from edgeline_export.subject import Subject

_CHUNK = 256
_LARGEST_EXCESS = 1.5
PRECISIONS = ("fp32", "fp16", "int8", "int8+fp16")


@dataclass(frozen=True, slots=True)
class GraphInPrecision:
    """The graph that ships, what it covers, and what calibrated it (None in fp32).

    `twin`, in the precisions with fp16, is a float32 graph that computes on a CPU what a device will compute.
    """

    graph: onnx.ModelProto
    coverage: Coverage
    calibration: Calibration | None = None
    twin: onnx.ModelProto | None = None


def graph_in_precision(subject: Subject, precision: str, layout: str, request: CalibrationRequest) -> GraphInPrecision:
    """Return the subject's graph in one of PRECISIONS (tf32 and bf16 are fp32 here); `layout` is quantise's, for int8.

    Raises InputError when calibration data is missing or does not fit, or an operator does not take the precision;
    GateError when an activation is too large for fp16 or the graph is not in the precision that was asked for.
    """
    refuse_uncounted(subject.graph, precision)
    result = _in_precision(subject, precision, layout, request)
    check_precision(result.coverage, precision)
    if "int8" in precision and result.calibration is not None:
        _check_covers_inputs(subject, result.calibration)
    return result


def _check_covers_inputs(subject: Subject, calibration: Calibration) -> None:
    """Raise GateError when what judges the export lies far outside of what calibration saw."""
    samples = subject.samples
    if samples.generated:
        return
    seen = calibration.ranges.get(calibration.input_name)
    largest = max(float(np.abs(samples.batch(i, i + _CHUNK)).max()) for i in range(0, len(samples), _CHUNK))
    if seen is not None and largest > _LARGEST_EXCESS * seen.magnitude:
        raise GateError(
            f"calibration on {calibration.data.dataset} saw inputs up to {seen.magnitude:.3g}, {samples.data} reaches "
            f"{largest:.3g}: int8 would cut it off; calibrate on what the network will see; nothing was written"
        )


def _in_precision(subject: Subject, precision: str, layout: str, request: CalibrationRequest) -> GraphInPrecision:
    if precision in FLOAT32_GRAPHS:
        return GraphInPrecision(subject.graph, coverage_of(subject.graph))
    plain = clean_graph(folded(subject.graph))
    calibration = calibrate(plain, _data(subject, precision, request), request.method or DEFAULT_CALIBRATION_METHOD)
    if "fp16" in precision:
        check_fits_half(calibration)
    if precision == "fp16":
        shipped = half(plain)
        return GraphInPrecision(shipped, coverage_of(shipped), calibration, rounded(plain))
    weight_levels = 127
    if subject.learnt is not None:
        weight_levels = subject.learnt.weight_levels
        if request.method is None:
            learnt = subject.learnt.within(plain)
            calibration = replace(calibration, learnt=learnt)
            note(
                f"the ranges of {len(learnt.ranges)} tensors are those of quantisation-aware training; "
                f"what else is quantised is calibrated ({calibration.method})"
            )
    if precision == "int8":
        shipped = quantised(plain, calibration.activation_ranges(), layout, weight_levels)
        return GraphInPrecision(shipped, coverage_of(shipped), calibration)
    # Integers end to end leave nothing to be float16: what is mixed is for compilers that fuse.
    float_graph = quantised(plain, calibration.activation_ranges(), "fused", weight_levels)
    shipped = half(float_graph)
    return GraphInPrecision(shipped, coverage_of(shipped), calibration, rounded(float_graph))


def _data(subject: Subject, precision: str, request: CalibrationRequest) -> CalibrationData:
    spec = inputs_of(subject.graph)[0]
    source = subject.dataset if request.source is None else request.source
    if source is not None:
        return calibration_data(
            source, request.samples, spec, subject.preprocessing, request.data_root, subject.dataset
        )
    # fp16 only looks for activations that are too large: the inputs that judge the export serve too, if they are real.
    samples = subject.samples
    if precision == "fp16" and not samples.generated:
        count = min(len(samples), request.samples)
        inputs = samples.batch(0, count)
        return CalibrationData(samples.data, None, None, np.arange(count), inputs, None, spec.shape[1:])
    raise InputError(
        f"{precision} needs calibration data: --calibration with a data set, an .npz file of `inputs` or a folder of "
        "images, of what the network will see"
    )
