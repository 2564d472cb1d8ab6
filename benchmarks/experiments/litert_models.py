"""Makes the LiteRT models that peers.py times: by Google's own converter and quantiser, from the PyTorch network.

    python benchmarks/experiments/litert_models.py --weights weights

The format `litert` of export-model makes artefacts for devices; these are for one batch size each, as peers.py binds
them.

fp32 is litert_torch.convert of the network; int8 is ai-edge-quantizer's static recipe (int8 weights and activations),
calibrated on the digits that calibrate our own int8, with floats left at input and output as in our artefacts. A model
is made for one batch size. Beside each lies a .weights file with the hash of the weights that it was made from.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from edgeline.command import Parser, note, run_command
from edgeline.errors import MissingCapabilityError
from edgeline.files import sha256_of_file, write_atomically
from edgeline.manifest import TensorSpec
from edgeline_bench.peers.cases import CASES
from edgeline_bench.peers.models import DATASET, tflite_name, weights_of
from edgeline_export.calibration_data import CalibrationData, calibration_data
from edgeline_export.formats.interface import DEFAULT_CALIBRATION_SAMPLES
from edgeline_train.data import DATASETS, preprocessing_for
from edgeline_train.models import Model, model_from_name
from edgeline_train.models.plain import plain_network
from edgeline_train.models.weights import DEFAULT_FOLDER, load_weights


def main(argv: Sequence[str] | None = None) -> int:
    """Write the models; return the exit code."""
    return run_command(_parser(), _body, argv)


def _parser() -> argparse.ArgumentParser:
    parser = Parser("litert_models.py", "Write the LiteRT models of peers.py.")
    models = list(dict.fromkeys(case.model for case in CASES))
    parser.add_argument("--weights", type=Path, nargs="+", default=[DEFAULT_FOLDER], metavar="PATH",
                        help="weights files, or folders that hold them")  # fmt: skip
    parser.add_argument("--models", nargs="+", choices=models, default=models, help="which networks")
    parser.add_argument("--out", type=Path, default=Path("artifacts/litert"), metavar="FOLDER", help="where to")
    return parser


def _body(args: argparse.Namespace) -> None:
    args.out.mkdir(parents=True, exist_ok=True)
    for name in args.models:
        weights = weights_of(name, args.weights)
        for batch in sorted({case.batch for case in CASES if case.model == name}):
            _write(model_from_name(name), weights, batch, args.out)


def _write(model: Model, weights: Path, batch: int, out: Path) -> None:
    try:
        import litert_torch
        from ai_edge_quantizer import qtyping, quantizer, recipe
        from ai_edge_quantizer.algorithm_manager import AlgorithmName
    except ImportError as error:
        raise MissingCapabilityError(
            f"litert-torch is not installed ({error}): pip install 'edgeline[peers]'"
        ) from None
    network = model.build().eval()
    load_weights(weights, network, model)
    float_path = out / tflite_name(model.name, "fp32", batch)
    note(f"converting {float_path.name}")
    litert_torch.convert(plain_network(network), (torch.zeros(batch, *model.input_shape),)).export(str(float_path))
    found = quantizer.Quantizer(str(float_path), recipe.static_wi8_ai8())
    for end in (qtyping.TFLOperationName.INPUT, qtyping.TFLOperationName.OUTPUT):
        found.update_quantization_recipe(".*", end, algorithm_key=AlgorithmName.NO_QUANTIZE)
    data = _calibration(model)
    batches = [{"args_0": data.network_input(images)} for images in data.batches(batch) if len(images) == batch]
    int8_path = out / tflite_name(model.name, "int8", batch)
    found.quantize(found.calibrate({"serving_default": batches})).export_model(str(int8_path), overwrite=True)
    for path in (float_path, int8_path):
        write_atomically(path.with_suffix(".weights"), sha256_of_file(weights) + "\n")


def _calibration(model: Model) -> CalibrationData:
    spec = TensorSpec("input", (-1, *model.input_shape), "float32")
    preprocessing = preprocessing_for(DATASETS[DATASET], model.input_shape, model.pad)
    return calibration_data(DATASET, DEFAULT_CALIBRATION_SAMPLES, spec, preprocessing, None)


if __name__ == "__main__":
    sys.exit(main())
