"""Every network, recipe and data set: trains what has not been trained yet, and writes the table of all.

    python benchmarks/experiments/training_results.py            train what is missing, then write the table
    python benchmarks/experiments/training_results.py --table    only the table, from the histories that are there

Each run is the command that the table prints, in a process of its own, one after the other. Its history and its curve
go to docs/results/; weights stay in the folder of --weights. A run whose history is there is not made again: remove the
history to have it made anew. A run that was stopped goes on from its checkpoint.
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from edgeline.command import Parser, note, run_command
from edgeline.errors import GateError, ResourceError
from edgeline.files import write_atomically
from edgeline_bench.tables import Table, markdown
from edgeline_train.history import History, history_path, read_history
from edgeline_train.models.weights import weights_file_name

RESULTS = Path("docs/results")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A run of the table. `least` is the test accuracy that it must reach, where one is promised."""

    model: str
    recipe: str
    dataset: str
    seed: int = 0
    least: float | None = None

    @property
    def name(self) -> str:
        """The stem of its files."""
        stem = Path(weights_file_name(self.model, self.dataset, self.recipe)).stem
        return f"{stem}-seed{self.seed}" if self.seed else stem

    @property
    def command(self) -> list[str]:
        """What trains it, without the folder of the weights."""
        command = ["train-model", self.model, "--dataset", self.dataset]
        if self.recipe != "best":
            command += ["--recipe", self.recipe]
        return [*command, "--seed", str(self.seed)] if self.seed else command


# The textbook's figure for d2l is 0.821.
RUNS = (
    Wanted("lenet", "best", "mnist-10k", least=0.98),
    Wanted("lenet", "best", "fashion-mnist"),
    *(Wanted("lenet", "d2l", "fashion-mnist", seed, least=0.80) for seed in (0, 1, 2)),
    Wanted("lenet-maxpool", "best", "mnist-10k"),
    Wanted("lenet-maxpool", "best", "fashion-mnist"),
    Wanted("lenet-maxpool", "published", "fashion-mnist"),
    Wanted("lenet-linear", "best", "mnist-10k"),
    Wanted("lenet-linear", "best", "fashion-mnist"),
    Wanted("lenet-linear", "published", "mnist-10k"),
    Wanted("lenet-relu", "best", "mnist-10k"),
    Wanted("lenet-relu", "best", "fashion-mnist", least=0.905),
    Wanted("lenet5", "best", "mnist-10k", least=0.985),
    Wanted("lenet5", "best", "fashion-mnist"),
    Wanted("lenet5", "published", "mnist-10k"),
    Wanted("lenet5-c3", "best", "mnist-10k"),
    Wanted("lenet5-c3", "best", "fashion-mnist"),
    Wanted("lenet5-c3", "published", "mnist-10k"),
    Wanted("lenet5-c3-rbf", "best", "mnist-10k"),
    Wanted("lenet5-c3-rbf", "best", "fashion-mnist"),
    Wanted("lenet5-c3-rbf", "published", "mnist-10k"),
    Wanted("alexnet", "best", "mnist-10k", least=0.975),
    Wanted("alexnet", "best", "fashion-mnist", least=0.90),
    Wanted("alexnet-28", "best", "mnist-10k"),
    Wanted("alexnet-28", "best", "fashion-mnist", least=0.93),
)
# In the table of recipes, but not trained to the end here, and why.
NOT_RUN = (
    "`alexnet` with `d2l` and `adam` on fashion-mnist: in float32, as published, an epoch takes over half an hour.",
    "Everything on the full `mnist`: it could not be had on the machine that made this table.",
)
# What else a reader must know of the runs that are kept.
REMARKS = (
    "`alexnet` and `alexnet-28` on fashion-mnist ran beside other work: alone they are faster, as on mnist-10k. "
    "`logs/alexnet-fashion-mnist.log` is what that run printed; it left out each epoch's last 32 images, which later "
    "versions train too.",
)


def main() -> int:
    """Run the experiment; return its exit code."""
    parser = Parser("training_results.py", "Train every network with every recipe, and write the table of all.")
    parser.add_argument("--table", action="store_true", help="train nothing: the table of what is there")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="train only runs whose name starts so")
    parser.add_argument("--weights", type=Path, default=Path("weights/results"), metavar="FOLDER")
    return run_command(parser, _body, None)


def _body(args: argparse.Namespace) -> None:
    if not args.table:
        for wanted in RUNS:
            if not args.only or any(wanted.name.startswith(name) for name in args.only):
                _train(wanted, args.weights)
    text = table_text([(wanted, history) for wanted in RUNS if (history := _history(wanted)) is not None])
    write_atomically(RESULTS / "training.md", text)
    print(text)
    short = [
        wanted.name for wanted in RUNS if (history := _history(wanted)) is not None and _falls_short(wanted, history)
    ]
    if short:
        raise GateError(f"below what is promised: {', '.join(short)}")


def _falls_short(wanted: Wanted, history: History) -> bool:
    return wanted.least is not None and history.run["accuracy"] < wanted.least


def _history_file(wanted: Wanted) -> Path:
    return RESULTS / "histories" / f"{wanted.name}.json"


def _history(wanted: Wanted) -> History | None:
    path = _history_file(wanted)
    return read_history(path) if path.exists() else None


def _train(wanted: Wanted, folder: Path) -> None:
    if _history_file(wanted).exists():
        return
    own = folder / wanted.name
    note(shlex.join(wanted.command))
    command = [sys.executable, "-m", "edgeline_train", *wanted.command[1:], "--resume", "--weights", str(own)]
    code = subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode
    if code:
        raise ResourceError(f"{shlex.join(wanted.command)} ended with exit code {code}: see the lines above")
    weights = own / weights_file_name(wanted.model, wanted.dataset, wanted.recipe)
    for source, target in (
        (weights.with_suffix(".curve.png"), RESULTS / "curves" / f"{wanted.name}.png"),
        (history_path(weights), _history_file(wanted)),  # last: it says that the run is done
    ):
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)


def table_text(rows: list[tuple[Wanted, History]]) -> str:
    """Return the page: what was trained, on what, with what outcome, by which command."""
    cells = [_cells(wanted, history) for wanted, history in rows]
    head = (
        "network", "recipe", "data set", "command", "seed", "epochs", "train loss", "test loss", "test accuracy",
        "promised", "examples/s", "time",
    )  # fmt: skip
    machines = {f"{h.machine['cpu']}, {h.machine['threads']} threads, torch {h.machine['torch']}" for _, h in rows}
    missing = [wanted.name for wanted in RUNS if wanted.name not in {w.name for w, _ in rows}]
    parts = [
        "# Training results",
        "Written by `python benchmarks/experiments/training_results.py` from `histories/`; curves are in `curves/`. "
        f"Machine: {'; '.join(sorted(machines))}.",
        markdown(Table("Runs", head, tuple(cells), left=4)).strip(),
        "The kept epoch is the best on the test split, so test figures are slightly optimistic. Losses are the kept "
        "epoch's; the training loss is the mean over the epoch, as the network stood at each step, with augmentation "
        "and label smoothing where the recipe has them. Examples per second are the median of the epochs' training "
        "steps; time is all epochs with their tests. `--weights` and `--resume` are left out of the commands.",
        *REMARKS,
        "Not here:",
        "\n".join(f"- {line}" for line in (*NOT_RUN, *(f"`{name}`: not trained yet." for name in missing))),
    ]
    return "\n\n".join(parts) + "\n"


def _cells(wanted: Wanted, history: History) -> tuple[str, ...]:
    kept = next(epoch for epoch in history.epochs if epoch["epoch"] == history.run["best_epoch"])
    time_s = sum(epoch["time_s"] for epoch in history.epochs)
    promised = "" if wanted.least is None else f"{wanted.least:.3f}"
    if _falls_short(wanted, history):
        promised += " (missed)"
    return (
        wanted.model, wanted.recipe, wanted.dataset, f"`{shlex.join(wanted.command)}`", str(wanted.seed),
        f"{history.run['best_epoch']} of {history.run['epochs']}", f"{kept['train_loss']:.3f}",
        f"{history.run['loss']:.3f}", f"{history.run['accuracy']:.4f}", promised,
        f"{statistics.median(epoch['examples_per_s'] for epoch in history.epochs):,.0f}",
        f"{time_s / 60:.1f} min",
    )  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main())
