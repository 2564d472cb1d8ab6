"""From an artefact's manifest to the configuration of a model that Triton serves.

What each backend takes is written down in its repository's README (triton-inference-server/onnxruntime_backend,
/tensorrt_backend, /openvino_backend) and in the server's docs/user_guide; docs/serving.md says why each value is what
it is. What cannot be told from the manifest (GPUs to use, threads, priorities) is left to Triton's defaults.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgeline.errors import InputError
from edgeline.manifest import Manifest, TensorSpec
from edgeline_export.triton.schema import schema

LABELS_FILE = "labels.txt"
NAME = re.compile(r"\w[\w.-]*", re.ASCII)  # one folder, and one segment of the path /v2/models/NAME

# Time that a request may wait for others. It bounds what a lone client loses; it is also the figure of Triton's docs.
_QUEUE_DELAY_US = 100

_DATA_TYPES = {
    "float32": "TYPE_FP32",
    "float16": "TYPE_FP16",
    "int8": "TYPE_INT8",
    "uint8": "TYPE_UINT8",
    "int32": "TYPE_INT32",
    "int64": "TYPE_INT64",
}


@dataclass(frozen=True, slots=True)
class Backend:
    """How Triton serves a format: its backend, the files of a version (the first is the one it opens), and where."""

    name: str
    files: tuple[str, ...]
    kind: str


BACKENDS: Mapping[str, Backend] = {
    "onnx": Backend("onnxruntime", ("model.onnx",), "KIND_AUTO"),  # a GPU where Triton sees one, else the CPU
    "trt": Backend("tensorrt", ("model.plan",), "KIND_GPU"),
    "openvino": Backend("openvino", ("model.xml", "model.bin"), "KIND_CPU"),  # the backend has nothing else
}


def model_name(manifest: Manifest) -> str:
    """Return `<model>-<dataset>-<precision>-<format>`, without the data set where there is none.

    Raises InputError where Triton could not serve it under that name.
    """
    precision = manifest.precision.replace("+", "-")  # a space to a URL's decoder
    name = "-".join(part for part in (manifest.name, manifest.dataset, precision, manifest.format) if part)
    if not NAME.fullmatch(name):
        raise InputError(
            f"Triton cannot serve a model under the name '{name}': it takes letters, digits, '.', '_' and '-'; give "
            "another with --name"
        )
    return name


def max_batch_size(manifest: Manifest) -> int:
    """Return the largest batch that Triton may send; 0 where it must not put requests together.

    That is so for a graph without a free batch, and for OpenVINO: its backend fixes the graph to max_batch_size, pads
    every smaller batch up to it, and after a padded batch answers a full one with an error (pull request 115 of
    openvino_backend). With 0 the batch is a dimension of the request like any other, of any size.
    """
    free = all(spec.shape[0] == -1 for spec in (*manifest.inputs, *manifest.outputs))
    return manifest.batch.max if free and manifest.format != "openvino" else 0


def model_config(manifest: Manifest) -> Any:
    """Return the ModelConfig of an artefact of a format in BACKENDS."""
    backend, largest = BACKENDS[manifest.format], max_batch_size(manifest)
    proto = schema()
    config = proto.ModelConfig(
        name=model_name(manifest),
        backend=backend.name,
        default_model_filename=backend.files[0],
        max_batch_size=largest,
        version_policy=proto.ModelVersionPolicy(latest=proto.ModelVersionPolicy.Latest(num_versions=1)),
        input=[proto.ModelInput(**_tensor(spec, largest)) for spec in manifest.inputs],
        output=[proto.ModelOutput(**_tensor(spec, largest)) for spec in manifest.outputs],
        instance_group=[proto.ModelInstanceGroup(kind=backend.kind, count=1)],
    )
    if manifest.labels is not None:
        config.output[0].label_filename = LABELS_FILE
    if largest > 1:
        config.dynamic_batching.preferred_batch_size.extend(sorted({manifest.batch.opt, largest}))
        config.dynamic_batching.max_queue_delay_microseconds = _QUEUE_DELAY_US
    for key, value in _parameters(manifest).items():
        config.parameters[key].string_value = value
    return config


def remarks(manifest: Manifest) -> list[str]:
    """Say what of the artefact's promise Triton does not keep by itself."""
    if manifest.format == "trt":
        return ["model.plan loads in Triton's image with the TensorRT that built it, on the GPU it was built for"]
    if manifest.format != "openvino":
        return []
    said = ["Triton's OpenVINO backend cannot put requests together: each is computed by itself, of any batch size"]
    if manifest.precision != "bf16":
        said.append(
            f"on a CPU with bfloat16, OpenVINO computes the float32 of this {manifest.precision} model in bfloat16, "
            "and Triton's OpenVINO backend has no parameter against it; --format onnx stays in float32"
        )
    return said


def _tensor(spec: TensorSpec, largest: int) -> dict[str, Any]:
    dims = spec.shape[1:] if largest else spec.shape
    return {"name": spec.name, "data_type": _DATA_TYPES[spec.dtype], "dims": dims}


def _parameters(manifest: Manifest) -> dict[str, str]:
    """Return what the backend's own README documents; Triton takes each as text."""
    if manifest.format == "onnx":
        return {"intra_op_thread_count": "0"}  # all cores: one instance runs at a time
    if manifest.format != "openvino":
        return {}
    hint = {"HINT_BF16": "YES"} if manifest.precision == "bf16" else {}
    return {"NUM_STREAMS": "1", "PERFORMANCE_HINT": "LATENCY", **hint}  # its latency mode, for its one instance
