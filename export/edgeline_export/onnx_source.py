"""Subjects that are .onnx files: read, brought to our opset and a free batch, and held against the file as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from google.protobuf.message import DecodeError

from edgeline.errors import InputError
from edgeline.files import sha256_of_file
from edgeline.manifest import BatchRange
from edgeline_export.graph import OPSET, check_ends, clean_graph, inputs_of, one_line, outputs_of, with_free_batch
from edgeline_export.samples import samples_for
from edgeline_export.subject import Reference, Subject, SubjectRequest


def subject_from_onnx(path: Path, request: SubjectRequest) -> Subject:
    """Read an .onnx file. Its reference is the file itself, unchanged, on ONNX Runtime."""
    model = _read(path)
    check_ends(model, str(path))
    size = inputs_of(model)[0].shape[0]
    fixed = None if size == -1 else size
    if fixed is not None and request.batch != BatchRange(fixed, fixed, fixed):
        model = with_free_batch(model)
    graph = clean_graph(_at_opset(path, model))
    outputs = outputs_of(graph)
    if fixed is not None and outputs[0].shape[0] not in (-1, request.batch.max):
        raise InputError(
            f"{path} fixes its batch to {fixed} inside the graph; export it with a free batch, or give --batch {fixed}"
        )
    spec = inputs_of(graph)[0]
    samples = samples_for(spec, request.samples, request.dataset, request.data_root)
    return Subject(
        name=request.name or path.stem,
        dataset=request.dataset,
        graph=graph,
        reference=_reference(path, fixed),
        reference_engine="onnxruntime, the file as it was",
        samples=samples,
        preprocessing=samples.preprocessing,
        labels=samples.label_names,
        source={
            "kind": "onnx",
            "onnx_sha256": sha256_of_file(path),
            "weights_sha256": None,
            "recipe": None,
            "accuracy": None,
        },
    )


def _read(path: Path) -> onnx.ModelProto:
    if not path.is_file():
        raise InputError(f"there is no file {path}")
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model)
    except (DecodeError, onnx.checker.ValidationError, ValueError, OSError) as error:
        raise InputError(f"{path} is damaged or no ONNX model: {one_line(error)}") from None
    return model


def _at_opset(path: Path, model: onnx.ModelProto) -> onnx.ModelProto:
    version = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
    if version == OPSET:
        return model
    try:
        return onnx.version_converter.convert_version(model, OPSET)
    except (RuntimeError, onnx.checker.ValidationError) as error:
        raise InputError(f"{path} has opset {version} and does not convert to {OPSET}: {one_line(error)}") from None


def _reference(path: Path, fixed: int | None) -> Reference:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001 - onnxruntime raises a class of its own per status code
        raise InputError(f"ONNX Runtime refuses {path}: {one_line(error)}") from None
    name = session.get_inputs()[0].name

    def run(batch: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if fixed is None:
            result: npt.NDArray[Any] = session.run(None, {name: batch})[0]
            return result
        padding = -len(batch) % fixed
        padded = np.concatenate([batch, np.repeat(batch[-1:], padding, axis=0)])
        pieces = [session.run(None, {name: padded[i : i + fixed]})[0] for i in range(0, len(padded), fixed)]
        return np.concatenate(pieces)[: len(batch)]

    return run
