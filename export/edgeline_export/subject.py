"""What is exported: a graph, the source it came from, and the inputs it is judged on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from edgeline.manifest import BatchRange, Preprocessing
from edgeline_export.samples import Samples

if TYPE_CHECKING:
    import onnx
    from torch import nn

    from edgeline_export.learnt import Learnt

DEFAULT_MAX_DROP = 0.01  # accuracy that an export may lose before it is not written
Reference = Callable[[npt.NDArray[Any]], npt.NDArray[Any]]


@dataclass(frozen=True, slots=True)
class SubjectRequest:
    """What the command line says about the subject."""

    subject: str
    weights: Path | None
    dataset: str | None
    data_root: Path | None
    samples: Path | None
    input_shape: tuple[int, ...] | None
    name: str | None
    batch: BatchRange


@dataclass(frozen=True, slots=True)
class Subject:
    """A network on its way to an artefact.

    `graph` is clean and in float32 (edgeline_export.graph); `reference` computes the source's own outputs, from
    [n, ...] to [n, ...]; `reference_engine` names what computes them. `learnt` is what quantisation-aware training
    fixed for int8. `module` is the network in evaluation mode with plain weights, for converters that start from torch;
    None for an .onnx file.
    """

    name: str
    dataset: str | None
    graph: onnx.ModelProto
    reference: Reference
    reference_engine: str
    samples: Samples
    preprocessing: Preprocessing | None
    labels: tuple[str, ...] | None
    source: Mapping[str, Any]
    learnt: Learnt | None = None
    module: nn.Module | None = None
