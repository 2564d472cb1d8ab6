"""The files that engines read: our artefacts, exported now, and what other people's tools make of the same network."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from edgeline.artefact import GRAPH_FILE, Artefact, open_artefact
from edgeline.backends.openvino import import_openvino, without_telemetry
from edgeline.command import note
from edgeline.errors import InputError, MissingCapabilityError
from edgeline.files import sha256_of_file
from edgeline_bench.peers import Peer
from edgeline_train.models import model_from_name
from edgeline_train.models.weights import DEFAULT_RECIPE, weights_file_name

if TYPE_CHECKING:
    from edgeline_export.calibration_data import CalibrationData

DATASET = "mnist-10k"
TFLITE_COMMAND = "benchmarks/experiments/litert_models.py"


def weights_of(model: str, places: list[Path]) -> Path:
    """Find the weights of a network among files and folders. Raises InputError, which says how to train it."""
    wanted = weights_file_name(model_from_name(model).name, DATASET, DEFAULT_RECIPE)
    for place in places:
        path = place / wanted if place.is_dir() else place
        if path.name == wanted and path.is_file():
            return path
    raise InputError(
        f"{wanted} is not in {', '.join(map(str, places))}: train-model {model} --dataset {DATASET}, or name another "
        "folder with --weights"
    )


def exported(model: str, precision: str, format_name: str, weights: Path, out: Path) -> Artefact:
    """Export by the command export-model, in a process of its own. Raises InputError with its last words."""
    note(f"exporting {model} {precision} {format_name}")
    command = [
        sys.executable, "-m", "edgeline_export", model, "--weights", weights, "--precision", precision, "--format",
        format_name, "--out", out,
    ]  # fmt: skip
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if result.returncode != 0:
        last = (result.stderr.strip().splitlines() or ["no word"])[-1]
        raise InputError(f"export-model {model} --format {format_name} ended with {result.returncode}: {last}")
    name = f"{model}-{DATASET}.{precision}.{format_name}"
    return open_artefact(out / name)


def model_of(peer: Peer, batch: int, artefact: Artefact, tflite: Path, work: Path) -> Path:
    """Return the file that a peer reads to run the network of `artefact` in its precision.

    Raises MissingCapabilityError where a peer's package or its model is missing, and says how to come by it.
    """
    if not peer.installed:
        raise MissingCapabilityError(f"{peer.module} is not installed: pip install 'edgeline[peers]'")
    if peer.source == "graph":
        return artefact.file(GRAPH_FILE)
    if peer.source == "nncf":
        return _nncf_model(artefact, work)
    manifest = artefact.manifest
    path = tflite / tflite_name(manifest.name, manifest.precision, batch)
    if not path.is_file():
        raise MissingCapabilityError(f"{path} is missing: {TFLITE_COMMAND} makes it")
    weights = path.with_suffix(".weights").read_text(encoding="ascii").strip()
    if weights != manifest.source["weights_sha256"]:
        raise MissingCapabilityError(f"{path} was made from other weights: run {TFLITE_COMMAND} again")
    return path


def tflite_name(model: str, precision: str, batch: int) -> str:
    """Return the file name of a LiteRT model, which is made for one batch size."""
    return f"{model}-{DATASET}.{precision}.b{batch}.tflite"


def _nncf_model(artefact: Artefact, work: Path) -> Path:
    """Quantise the graph in fp32 beside an int8 artefact by NNCF, with the calibration digits of that artefact."""
    manifest = artefact.manifest
    float_name = artefact.folder.name.replace(".int8.", ".fp32.")
    graph = open_artefact(artefact.folder.with_name(float_name)).file(GRAPH_FILE)
    os.environ.setdefault("NNCF_CI", "1")  # without it NNCF tells a server of its use
    openvino = import_openvino()
    with without_telemetry():  # NNCF makes an identity for it even where it then sends nothing
        import nncf

    path = work / f"{manifest.name}-{DATASET}.nncf-{nncf.__version__}-{sha256_of_file(graph)[:12]}.xml"
    if path.is_file():
        return path
    note(f"quantising {manifest.name} by NNCF")
    data = _calibration(artefact)
    batches = [data.network_input(batch) for batch in data.batches(1)]
    made = nncf.quantize(openvino.Core().read_model(graph), nncf.Dataset(batches), subset_size=len(batches))
    work.mkdir(parents=True, exist_ok=True)
    openvino.save_model(made, path, compress_to_fp16=False)
    return path


def _calibration(artefact: Artefact) -> CalibrationData:
    from edgeline_export.calibration_data import calibration_data

    manifest = artefact.manifest
    count = (manifest.calibration or {}).get("samples", 512)
    return calibration_data(DATASET, int(count), manifest.inputs[0], manifest.preprocessing, None)
