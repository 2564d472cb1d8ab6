"""Subjects that are torch modules: registered networks with trained weights, and factories of the user's."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from torch import nn

from edgeline.command import note
from edgeline.errors import InputError
from edgeline.files import sha256_of_file
from edgeline.manifest import TensorSpec
from edgeline_export.factory import module_from_factory
from edgeline_export.graph import OPSET, check_ends, clean_graph, one_line
from edgeline_export.learnt import learnt_from
from edgeline_export.quiet import quiet
from edgeline_export.samples import samples_for, samples_from_dataset, samples_from_file
from edgeline_export.subject import Reference, Subject, SubjectRequest
from edgeline_train.data import dataset_from_name, preprocessing_for
from edgeline_train.models import Model
from edgeline_train.models.plain import plain_network
from edgeline_train.models.weights import find_weights, load_weights


def subject_from_model(model: Model, request: SubjectRequest) -> Subject:
    """Load a registered network's trained weights; judge it on the test split of the data set they were trained on."""
    path = find_weights(model, request.weights, request.dataset)
    network = model.build()
    info = load_weights(path, network, model)
    dataset = dataset_from_name(info.dataset)
    if request.dataset not in (None, info.dataset):
        raise InputError(f"{path} was trained on {info.dataset}, not on {request.dataset}")
    # What the weights say of mean and deviation: a recipe need not have standardised by the data set's.
    preprocessing = preprocessing_for(dataset, model.input_shape, model.pad, (info.mean, info.std))
    if request.samples is not None:
        samples = samples_from_file(request.samples, _spec(model.input_shape))
    else:
        samples = samples_from_dataset(dataset, request.data_root, preprocessing, model.input_shape)
    exported = exported_from_module(network, model.input_shape)
    qat = info.qat
    return Subject(
        name=request.name or model.name,
        dataset=info.dataset,
        graph=clean_graph(exported),
        reference=eager_reference(network),
        reference_engine="eager",
        samples=samples,
        preprocessing=preprocessing,
        labels=info.labels,
        source={
            "kind": "model",
            "model": model.name,
            "weights_sha256": sha256_of_file(path),
            "recipe": info.recipe,
            "accuracy": info.accuracy,
            "qat": None if qat is None else {"weight_bits": qat.weight_bits, "float_accuracy": qat.float_accuracy},
        },
        learnt=None if qat is None else learnt_from(qat, exported),
        module=_plain(network),
    )


def subject_from_factory(request: SubjectRequest) -> Subject:
    """Call `package.module:factory`, looked for in the current folder too, for a torch module."""
    network = module_from_factory(request.subject)
    shape = request.input_shape or getattr(network, "input_shape", None)
    if shape is None and request.samples is not None:
        shape = samples_from_file(request.samples, None).array.shape[1:]
    if shape is None:
        raise InputError(
            f"the input shape of {request.subject} is not known: give --input-shape 1,28,28 or --samples FILE.npz"
        )
    shape = tuple(int(size) for size in shape)
    samples = samples_for(_spec(shape), request.samples, request.dataset, request.data_root)
    return Subject(
        name=request.name or request.subject.partition(":")[2].lower(),
        dataset=request.dataset,
        graph=graph_from_module(network, shape),
        reference=eager_reference(network),
        reference_engine="eager",
        samples=samples,
        preprocessing=samples.preprocessing,
        labels=samples.label_names,
        source={
            "kind": "factory",
            "factory": request.subject,
            "weights_sha256": None,
            "recipe": None,
            "accuracy": None,
        },
        module=_plain(network),
    )


def _spec(shape: tuple[int, ...]) -> TensorSpec:
    return TensorSpec("input", (-1, *shape), "float32")


def graph_from_module(network: nn.Module, input_shape: tuple[int, ...]) -> onnx.ModelProto:
    """Export a module that takes float32 [N, *input_shape] to a clean graph with a free batch.

    Raises InputError, with torch's own words, when torch cannot export it.
    """
    return clean_graph(exported_from_module(network, input_shape))


def exported_from_module(network: nn.Module, input_shape: tuple[int, ...]) -> onnx.ModelProto:
    """Return the same graph as torch leaves it: its nodes still say which modules they came from.

    Parametrised weights (weight_norm, connection tables) become plain ones, in a copy. Raises InputError, with torch's
    own words, when torch cannot export it.
    """
    note(f"converting {type(network).__name__} to ONNX")
    network.eval()
    example = torch.zeros(2, *input_shape)
    _try_forward(network, example)
    plain = _plain(network)
    try:
        with quiet(), torch.inference_mode(False):
            program = torch.onnx.export(
                plain,
                (example,),
                dynamo=True,
                external_data=False,
                opset_version=OPSET,
                input_names=["input"],
                output_names=["logits"],
                dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        cause = error.__cause__ or error
        raise InputError(f"torch cannot export this network to ONNX: {one_line(Exception(str(cause)))}") from None
    assert program is not None
    graph = program.model_proto
    check_ends(graph, type(network).__name__)
    return graph


def _plain(network: nn.Module) -> nn.Module:
    try:
        return plain_network(network)
    except Exception as error:
        raise InputError(
            f"the parametrised weights of {type(network).__name__} cannot be made plain in a copy: {one_line(error)}"
        ) from error


def _try_forward(network: nn.Module, example: torch.Tensor) -> None:
    """Run the module once as it is: what is wrong with it or its input shape is said in its own words, at once."""
    name, shape = type(network).__name__, ["N", *example.shape[1:]]
    try:
        with torch.inference_mode():
            result = network(example)
    except Exception as error:
        raise InputError(
            f"{name} does not run on float32 {shape}: {type(error).__name__}: {one_line(error)}"
        ) from error
    if not isinstance(result, torch.Tensor):
        raise InputError(f"{name} returns a {type(result).__name__}; edgeline takes networks that return a tensor")
    if result.shape[:1] != example.shape[:1]:
        raise InputError(f"{name} turns a batch of 2 into {list(result.shape)}; the first dimension must be the batch")


def eager_reference(network: nn.Module) -> Reference:
    """Return a function that runs the module as it is, on the CPU."""

    def run(batch: npt.NDArray[Any]) -> npt.NDArray[Any]:
        with torch.inference_mode():
            result = network(torch.from_numpy(batch))
        return np.asarray(result.numpy())

    return run
