"""When quantisation-aware training helps, on the same test images: few calibration samples, and few bits.

    python benchmarks/experiments/qat.py --out docs/results/qat.md

Trains LeNet and fine-tunes it by the command train-model, a process for each; weights that are there are taken as they
are, so an interrupted experiment goes on where it stopped. All accuracies are of the integer graph on ONNX Runtime.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import torch
from torch import nn

from edgeline.command import Parser, note, run_command
from edgeline.errors import ResourceError
from edgeline.files import write_atomically
from edgeline.manifest import BatchRange
from edgeline_bench.tables import Table, markdown
from edgeline_export.calibration import calibrate
from edgeline_export.calibration_data import CalibrationData
from edgeline_export.fold import folded
from edgeline_export.formats.interface import DEFAULT_CALIBRATION_METHOD, CalibrationRequest
from edgeline_export.graph import clean_graph
from edgeline_export.learnt import Learnt
from edgeline_export.paired import paired_accuracy
from edgeline_export.precision import graph_in_precision
from edgeline_export.quantise import quantised
from edgeline_export.runner import GraphRunner
from edgeline_export.subject import Subject, SubjectRequest
from edgeline_export.torch_source import graph_from_module, subject_from_model
from edgeline_train.data import load_split
from edgeline_train.data.datasets import DEFAULT_DATASET, dataset_from_name
from edgeline_train.models import Model, model_from_name
from edgeline_train.models.weights import DEFAULT_FOLDER, DEFAULT_RECIPE, load_weights, weights_file_name
from edgeline_train.qat import WeightQuantiser

_BITS = (8, 4, 3, 2)
_SAMPLES = (1, 2, 4, 8, 512)
_DRAWS = 20
_SMALLEST_P = 1e-100  # nobody needs to know it better, and the smallest ones are rounded to 0
Right = npt.NDArray[np.bool_]  # [test images]: was the answer right


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was right: in float, after training for each number of bits, and for each number of samples and draw."""

    float_right: Right
    rounded: dict[int, Right]
    trained: dict[int, Right]
    sampled: dict[int, list[Right]]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the experiment; return its exit code."""
    return run_command(_parser(), _body, argv)


def _parser() -> argparse.ArgumentParser:
    parser = Parser("qat.py", "Compare rounding after training with quantisation-aware training, and write tables.")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.md", help="where the outcome is written")
    parser.add_argument("--model", default="lenet", metavar="NAME", help="a network of train-model --list")
    parser.add_argument("--dataset", default=DEFAULT_DATASET, metavar="NAME", help="a data set of train-model")
    parser.add_argument("--weights", type=Path, default=DEFAULT_FOLDER, metavar="FOLDER", help="where weights are kept")
    return parser


def _body(args: argparse.Namespace) -> None:
    model, dataset, folder = model_from_name(args.model), args.dataset, args.weights
    start = _subject(model, dataset, folder, None)
    trained = {bits: _right(_exported(_subject(model, dataset, folder, bits)), start) for bits in _BITS}
    outcome = Outcome(
        float_right=_right(start.graph, start),
        rounded={bits: _right(_exported(_rounded(model, start, folder, bits)), start) for bits in _BITS},
        trained=trained,
        sampled={count: _sampled(start, dataset, count) for count in _SAMPLES},
    )
    write_atomically(args.out, text_of(model.name, dataset, outcome))


def _subject(model: Model, dataset: str, folder: Path, bits: int | None) -> Subject:
    """Return what export-model would export, trained now unless it is there; `bits` None: the float weights."""
    path = folder / weights_file_name(model.name, dataset, DEFAULT_RECIPE, bits)
    if not path.exists():
        note(f"training {path.name}")
        command = [sys.executable, "-m", "edgeline_train", model.name, "--dataset", dataset, "--weights", folder]
        command += [] if bits is None else ["--qat", "--qat-weight-bits", bits]
        result = subprocess.run([str(part) for part in command], capture_output=True, text=True)
        if result.returncode != 0:
            raise ResourceError(f"train-model ended with {result.returncode}: {result.stderr.strip()[-500:]}")
    request = SubjectRequest(model.name, path, None, None, None, None, None, BatchRange(1, 8, 64))
    return subject_from_model(model, request)


def _rounded(model: Model, start: Subject, folder: Path, bits: int) -> Subject:
    """Return the float network with its weights rounded to the same grid that QAT has, and nothing learnt."""
    network = model.build()
    load_weights(folder / weights_file_name(model.name, str(start.dataset), DEFAULT_RECIPE), network, model)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                module.weight.copy_(WeightQuantiser(bits)(module.weight))
    return replace(start, graph=graph_from_module(network, model.input_shape), learnt=Learnt(bits, {}))


def _exported(subject: Subject) -> onnx.ModelProto:
    """Return the integer graph as the command export-model makes it by default."""
    return graph_in_precision(subject, "int8", "integer", CalibrationRequest()).graph


def _sampled(start: Subject, dataset: str, count: int) -> list[Right]:
    """Return what is right after a calibration on `count` training images, for each of several draws of them."""
    plain = clean_graph(folded(start.graph))
    images = load_split(dataset_from_name(dataset), "train").images
    found = []
    for seed in range(_DRAWS):
        indices = np.sort(np.random.default_rng(seed).choice(len(images), count, replace=False)).astype(np.int64)
        shape = start.samples.input_shape
        data = CalibrationData(dataset, "train", seed, indices, images[indices], start.preprocessing, shape)
        ranges = calibrate(plain, data, DEFAULT_CALIBRATION_METHOD).activation_ranges()
        found.append(_right(quantised(plain, ranges, "integer"), start))
    return found


def _right(graph: onnx.ModelProto, subject: Subject) -> Right:
    samples = subject.samples
    if samples.labels is None:
        raise ValueError("a test split has labels")
    outputs = GraphRunner(graph).run(samples.batch(0, len(samples)))
    return np.asarray(outputs.argmax(1) == samples.labels)


def text_of(model: str, dataset: str, outcome: Outcome) -> str:
    """Return the outcome as Markdown: two tables, and how they were made."""
    count = len(outcome.float_right)
    return "\n".join([
        "# Quantisation-aware training, against rounding after training", "",
        f"{model} on {dataset}: the share of the same {count:,} test images that is right. In float32: "
        f"**{outcome.float_right.mean():.4f}**. All others: the graph of `export-model {model} --precision int8` on "
        "ONNX Runtime, whose activations have 8 bits. p: McNemar's, exact, of rounding against QAT on the same images.",
        "", markdown(_bits_table(outcome)), markdown(_samples_table(outcome)),
        f"Made by `python benchmarks/experiments/qat.py --model {model} --dataset {dataset}`, with "
        f"torch {torch.__version__.partition('+')[0]}; weights by `train-model {model}` and `train-model {model} --qat "
        "--qat-weight-bits N`, seed 0. The epoch of each training was chosen on these test images too, which flatters "
        "float and QAT a little.", "",
    ])  # fmt: skip


def _bits_table(outcome: Outcome) -> Table:
    rows = tuple(
        (str(bits), f"{outcome.rounded[bits].mean():.4f}", f"{outcome.trained[bits].mean():.4f}",
         _p(outcome.rounded[bits], outcome.trained[bits]), _p(outcome.float_right, outcome.trained[bits]))
        for bits in _BITS
    )  # fmt: skip
    heading = ("bits of weights", "rounded after training", "QAT", "p", "p of QAT against float")
    words = "Rounded: the float weights on the grid that QAT has, activations calibrated on 512 training images."
    return Table("Fewer bits", heading, rows, 1, words)


def _samples_table(outcome: Outcome) -> Table:
    trained, rows = outcome.trained[8], []
    for count, draws in outcome.sampled.items():
        worst = min(draws, key=lambda right: float(right.mean()))
        median = float(np.median([right.mean() for right in draws]))
        cells = (str(count), f"{median:.4f}", f"{worst.mean():.4f}", f"{trained.mean():.4f}", _p(worst, trained))
        rows.append(cells)
    heading = ("calibration samples", "median draw", "worst draw", "QAT", "p, worst against QAT")
    words = (
        f"8-bit weights. The float network is calibrated on so many training images, drawn {_DRAWS} times; QAT brings "
        "its ranges along. The worst draw was picked by its accuracy, so its p is smaller than that of any one draw."
    )
    return Table("Fewer calibration samples", heading, tuple(rows), 1, words)


def _p(first: Right, second: Right) -> str:
    p = paired_accuracy(first, second).mcnemar_p
    return f"{p:.2g}" if p >= _SMALLEST_P else f"< {_SMALLEST_P:g}"


if __name__ == "__main__":
    raise SystemExit(main())
