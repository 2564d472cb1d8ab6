"""`train-model MODEL --sweep OPTION=A,B,...`: one training for each value, a table and a plot of what they came to.

Each value is trained by a process of its own: peak memory is then that run's. What is finished stays, so a sweep that
was stopped goes on with --resume.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from edgeline.command import note
from edgeline.errors import (
    EXIT_CAPABILITY,
    EXIT_GATE,
    EXIT_INPUT,
    EXIT_INTERRUPTED,
    EXIT_OK,
    GateError,
    InputError,
    MissingCapabilityError,
    ResourceError,
)
from edgeline.files import write_atomically
from edgeline_train.figures import new_figure, save_figure
from edgeline_train.history import history_path, read_history
from edgeline_train.models import Model
from edgeline_train.models.weights import weights_file_name
from edgeline_train.recipes import default_dataset, recipe_for

_KINDS = {"batch-size": int, "epochs": int, "seed": int, "lr": float, "label-smoothing": float}
_LOGARITHMIC = ("batch-size", "lr")
_LOG_WIDTH = 120  # of a pipe or a file, where nobody says how wide it is
# What is handed on to each run as it was given; the swept option is taken out of it.
_PASSED = ("data_root", "seed", "epochs", "batch_size", "lr", "augment", "label_smoothing", "patience", "device")


@dataclass(frozen=True, slots=True)
class Point:
    """What one value came to. `time_s` is the sum of the epochs', `examples_per_s` their median."""

    value: float
    accuracy: float
    loss: float
    best_epoch: int
    time_s: float
    examples_per_s: float
    peak_memory_bytes: int | None  # of the GPU where one was used, else of the process
    weights: str


def run(model: Model, args: argparse.Namespace) -> None:
    """Train once for each value; print the table, write it as JSON and as a picture."""
    option, values = _parse(args.sweep)
    dataset = args.dataset or default_dataset(model.name, args.recipe)
    recipe_for(model.name, args.recipe, dataset)
    name = weights_file_name(model.name, dataset, args.recipe)
    folder = args.weights / "sweeps" / f"{Path(name).stem}-{option}"
    points: list[Point] = []
    failed: list[float] = []
    for number, text in enumerate(values, 1):
        note(f"{option} {text} ({number} of {len(values)})")
        own = folder / text
        if _train(_command(model.name, dataset, args, option, text, own), option, text):
            points.append(_point(float(text), own / name))
        else:
            failed.append(float(text))
        # After every run: a sweep that is stopped leaves what it has.
        record = {
            "option": option, "model": model.name, "dataset": dataset, "recipe": args.recipe,
            "points": [asdict(p) for p in points], "failed": failed,
        }  # fmt: skip
        write_atomically(folder / "sweep.json", json.dumps(record, indent=2) + "\n")
    if not points:
        raise GateError(f"none of {option} {args.sweep.partition('=')[2]} could be trained to its end")
    picture = folder / f"{option}.png"
    plot_sweep(points, option, f"{model.name} on {dataset}: {option}", picture)
    if args.json:
        print(json.dumps(record, indent=2))
    else:
        terminal = sys.stdout.isatty()
        Console(highlight=False, width=None if terminal else _LOG_WIDTH).print(_table(points, option))
        for value in failed:
            note(f"{option} {value:g} was not trained to its end: its loss was no longer finite")
        note(f"{picture} and {folder / 'sweep.json'} hold the same")


def _parse(text: str) -> tuple[str, list[str]]:
    option, _, given = text.partition("=")
    option = option.removeprefix("--").replace("_", "-")
    if option not in _KINDS or not given:
        raise InputError(f"--sweep takes OPTION=A,B,... with one of {', '.join(_KINDS)}, got '{text}'")
    values = [value.strip() for value in given.split(",") if value.strip()]
    numbers = []
    for value in values:
        try:
            numbers.append(_KINDS[option](value))
        except ValueError:
            raise InputError(f"--sweep {option} takes {_KINDS[option].__name__} values, got '{value}'") from None
    if not values or len(set(numbers)) != len(numbers):
        raise InputError(f"--sweep {option} takes values that differ, separated by commas, got '{given}'")
    return option, values


def _command(model: str, dataset: str, args: argparse.Namespace, option: str, value: str, folder: Path) -> list[str]:
    command = [sys.executable, "-m", "edgeline_train", model, "--dataset", dataset, "--recipe", args.recipe]
    for key in _PASSED:
        given = getattr(args, key)
        if key.replace("_", "-") != option and given is not None:
            command += [f"--{key.replace('_', '-')}", str(given)]
    for key in ("bf16", "compile"):
        given = getattr(args, key)
        if given is not None:
            command.append(f"--{key}" if given else f"--no-{key}")
    if args.keep:
        command.append("--keep")
    if args.resume:
        command.append("--resume")
    if args.tensorboard is not None:
        command += ["--tensorboard", str(args.tensorboard / f"{option}-{value}")]
    return [*command, f"--{option}", value, "--weights", str(folder)]


def _train(command: Sequence[str], option: str, value: str) -> bool:
    """Train one value; False when its loss did not stay finite, which ends that value and not the sweep."""
    # Its progress goes to our stderr; what it prints as its result is in the history as well.
    try:
        code = subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode
    except KeyboardInterrupt:
        note("stopped; go on with the same command and --resume")
        raise
    if code in (EXIT_INTERRUPTED, -2):
        raise KeyboardInterrupt
    if code not in (EXIT_OK, EXIT_GATE):
        kind = {EXIT_INPUT: InputError, EXIT_CAPABILITY: MissingCapabilityError}.get(code, ResourceError)
        raise kind(f"the training with {option} {value} ended with exit code {code}: see the line above")
    return code == EXIT_OK


def _point(value: float, weights: Path) -> Point:
    history = read_history(history_path(weights))
    return Point(
        value=value,
        accuracy=history.run["accuracy"],
        loss=history.run["loss"],
        best_epoch=history.run["best_epoch"],
        time_s=sum(epoch["time_s"] for epoch in history.epochs),
        examples_per_s=median(epoch["examples_per_s"] for epoch in history.epochs),
        peak_memory_bytes=history.machine.get("peak_device_memory_bytes") or history.machine.get("peak_memory_bytes"),
        weights=str(weights),
    )


def _table(points: Sequence[Point], option: str) -> Table:
    best = max(points, key=lambda point: (point.accuracy, -point.loss))
    table = Table()
    for title in (option, "test accuracy", "test loss", "best epoch", "examples/s", "time", "peak memory"):
        table.add_column(title, justify="right")
    for point in points:
        memory = "unknown" if point.peak_memory_bytes is None else f"{point.peak_memory_bytes / 2**20:,.0f} MiB"
        table.add_row(
            f"{point.value:g}", f"{point.accuracy:.4f}", f"{point.loss:.4f}", str(point.best_epoch),
            f"{point.examples_per_s:,.0f}", f"{point.time_s:.0f} s", memory, style="bold" if point is best else None,
        )  # fmt: skip
    return table


def plot_sweep(points: Sequence[Point], option: str, title: str, path: Path) -> None:
    """Draw accuracy, training time and peak memory against the swept option. Raises InputError, OSError."""
    figure = new_figure(11.0, 3.6)
    figure.suptitle(title, fontsize=12)
    panels = [
        ("test accuracy", [p.accuracy for p in points]),
        ("training time (s)", [p.time_s for p in points]),
        ("peak memory (MiB)", [float("nan") if p.peak_memory_bytes is None else p.peak_memory_bytes / 2**20
                               for p in points]),
    ]  # fmt: skip
    places = [p.value for p in points]
    for axes, (name, values) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        axes.plot(places, values, "o-", color="#1f4e9c", linewidth=1.4, markersize=5)
        axes.set_title(name, fontsize=11, loc="left")
        axes.set_xlabel(option)
        if option in _LOGARITHMIC:
            axes.set_xscale("log", base=2 if option == "batch-size" else 10)
        axes.set_xticks(places, [f"{place:g}" for place in places])
        axes.minorticks_off()
        if name != "test accuracy":
            axes.margins(y=0.1)
            axes.update_datalim([(places[0], 0)])  # times and sizes: their ratio is what is seen
            axes.autoscale_view()
            axes.set_ylim(bottom=0)
        axes.grid(axis="y", linewidth=0.5, color="#d0d0d0")
        axes.spines[["top", "right"]].set_visible(False)
    save_figure(figure, path)
