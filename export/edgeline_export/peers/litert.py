"""From a torch network to a .tflite: litert-torch converts, ai-edge-quantizer makes int8 of it, both as they come.

int8 is the quantiser's recipe static_wi8_ai8 (int8 weights per channel, int8 activations), calibrated on our samples,
with floats left at both ends; it does not read our graph's Q/DQ, nor ranges that training learnt. What is integer in
the end is read from the file. The same weights give the same bytes.

The converter fixes the batch in two places: the shapes, which an interpreter resizes, and constants that Reshape reads.
The latter get -1 where they begin with the batch, so one file with one copy of the weights runs any batch size. (Its
own free dimensions do not get through a Flatten: litert-torch 0.10.0 refuses the view.)
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeline import interrupts
from edgeline.backends.litert import MODEL_FILE, LiteRtSession
from edgeline.command import note
from edgeline.errors import InputError
from edgeline_export.assemble import Compiled
from edgeline_export.coverage import check_precision
from edgeline_export.formats.interface import ExportRequest
from edgeline_export.graph import inputs_of, one_line
from edgeline_export.peers.tflite import Model, read_model
from edgeline_export.precision import GraphInPrecision
from edgeline_export.quiet import quiet
from edgeline_export.subject import Subject
from edgeline_export.writer import versions_of

if TYPE_CHECKING:
    from torch import nn

    from edgeline_export.calibration_data import CalibrationData

_BATCH = 7  # what the converter is shown: a size that a dimension of a network hardly has
# The quantiser averages the ranges of batches: few and large ones leave less outside (LeNet's logits with 8 samples a
# batch are 3.2 off at most, with 64 of them 0.9), and all tensors of a batch are in memory at once.
_CALIBRATION_BATCH = 64
_RECIPE = "static_wi8_ai8"
_PACKAGES = ("litert-torch", "litert-converter", "ai-edge-litert")
_QUANTISER = "ai-edge-quantizer"


def compile_module(module: nn.Module, subject: Subject, request: ExportRequest, prepared: GraphInPrecision) -> Compiled:
    """Convert the module in the precision of the request.

    Raises InputError, with the tool's own words, when litert-torch or ai-edge-quantizer does not take the network;
    GateError when the file is not in the precision that was asked for.
    """
    shape = inputs_of(subject.graph)[0].shape[1:]
    note(f"converting {subject.name} with litert-torch")
    content, freed = free_batch(_converted(module, shape), _BATCH)
    record: dict[str, Any] = {
        "converter": "litert-torch",
        "quantiser": None,
        "batches": "any",
        "reshapes_freed": freed,
    }
    if prepared.calibration is not None:
        data = prepared.calibration.data
        if subject.learnt is not None:
            note(f"{_QUANTISER} calibrates by itself: ranges of quantisation-aware training stay in model.onnx")
        content = _quantised(content, data)
        record["quantiser"] = {
            "name": _QUANTISER,
            "version": versions_of(_QUANTISER)[_QUANTISER],
            "scheme": f"{_RECIPE}: int8 weights per channel, int8 activations, float32 ends",
            "ranges": "moving average of the minima and maxima of batches",
            "samples": len(data),
            "batch": _CALIBRATION_BATCH,
        }
    model = read_model(content)
    coverage = model.coverage(prepared.coverage)
    check_precision(coverage, request.precision)
    record["operators"] = _operators(model)
    return Compiled(
        files={MODEL_FILE: content},
        compilation=record,
        versions=versions_of(*_PACKAGES, *([_QUANTISER] if record["quantiser"] else [])),
        coverage=coverage,
        open_session=lambda artefact: LiteRtSession(artefact, "cpu"),
    )


def free_batch(content: bytes, batch: int) -> tuple[bytes, int]:
    """Return a .tflite whose Reshapes take any batch, and how many of them were fixed at `batch`.

    A constant target that begins with the batch, of data that does, gets -1 there, which LiteRT fills in.
    """
    data = bytearray(content)
    freed = 0
    for operator in read_model(data).operators:
        target = operator.constant(1) if operator.kind == "RESHAPE" and len(operator.inputs) > 1 else None
        if target is None or not target.size:
            continue
        sizes = target.view(np.int32)  # the file's own bytes
        if operator.inputs[0].shape[:1] == (batch,) and sizes[0] == batch:
            sizes[0] = -1
            freed += 1
    return bytes(data), freed


def _converted(module: nn.Module, shape: tuple[int, ...]) -> bytes:
    with _quiet():
        with interrupts.held():
            import litert_torch
            import torch

        try:
            content: bytes = litert_torch.convert(module.eval(), (torch.zeros(_BATCH, *shape),)).model_content()
        except Exception as error:
            raise InputError(f"litert-torch cannot convert this network: {one_line(error)}") from error
    return content


def _quantised(content: bytes, data: CalibrationData) -> bytes:
    note(f"quantising with {_QUANTISER}, {_RECIPE}, on {len(data)} samples")
    with _quiet():
        with interrupts.held():
            from ai_edge_quantizer import qtyping, quantizer, recipe
            from ai_edge_quantizer.algorithm_manager import AlgorithmName

        found = quantizer.Quantizer(bytearray(content), getattr(recipe, _RECIPE)())
        for end in (qtyping.TFLOperationName.INPUT, qtyping.TFLOperationName.OUTPUT):
            found.update_quantization_recipe(".*", end, algorithm_key=AlgorithmName.NO_QUANTIZE)
        # A list: the quantiser goes through it twice, and a generator would be empty then.
        batches = [{"args_0": data.network_input(batch)} for batch in data.batches(_CALIBRATION_BATCH)]
        try:
            ranges = found.calibrate({"serving_default": batches}, num_threads=1)
            return bytes(found.quantize(ranges, enable_progress_report=False).quantized_model)
        except Exception as error:
            raise InputError(f"{_QUANTISER} cannot quantise this network: {one_line(error)}") from error


def _operators(model: Model) -> dict[str, int]:
    """Count the operators by kind and the type of what they make: {"CONV_2D INT8": 5}."""
    names = sorted(f"{operator.kind} {operator.outputs[0].type}" for operator in model.operators)
    return {name: names.count(name) for name in dict.fromkeys(names)}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep converter and quantiser from printing, what they print from C++ too."""
    with quiet(), contextlib.ExitStack() as stack:
        nothing = os.open(os.devnull, os.O_WRONLY)
        stack.callback(os.close, nothing)
        for descriptor in (1, 2):
            kept = os.dup(descriptor)
            stack.callback(os.close, kept)
            stack.callback(os.dup2, kept, descriptor)
            os.dup2(nothing, descriptor)
        yield
