"""The command `train-model`."""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeline import interrupts
from edgeline.command import Parser, note, run_command
from edgeline.errors import InputError, MissingCapabilityError
from edgeline_train.data.datasets import (
    DATASETS,
    DEFAULT_DATASET,
    dataset_from_name,
    find_files,
    load_split,
    preprocessing_for,
)
from edgeline_train.models import MODELS, Model, model_from_name
from edgeline_train.models.weights import (
    DEFAULT_FOLDER,
    DEFAULT_RECIPE,
    WeightsInfo,
    info_from_weights,
    weights_file_name,
    write_weights,
)
from edgeline_train.recipes import RECIPES, Recipe, recipe_for

if TYPE_CHECKING:
    from edgeline_train.loop import Result, Run

EPILOG = """examples:
  train-model lenet
  train-model lenet --summary
  train-model alexnet --dataset fashion-mnist --data-root ~/data
  train-model lenet --resume"""


_MAX_SEED = 2**31 - 1


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return run_command(_parser(), _body, argv)


def _parser() -> argparse.ArgumentParser:
    parser = Parser("train-model", "Train a network and write its weights as safetensors.", EPILOG)
    parser.add_argument("model", metavar="MODEL", nargs="?", help=f"one of: {', '.join(MODELS)}")
    parser.add_argument("--list", action="store_true", help="list the networks and their recipes")
    parser.add_argument("--list-datasets", action="store_true", help="list the data sets and where they are on disk")
    parser.add_argument("--summary", action="store_true", help="print each layer's shape, parameters and MACs")
    parser.add_argument("--dataset", default=DEFAULT_DATASET, metavar="NAME", help=f"one of: {', '.join(DATASETS)}")
    parser.add_argument("--data-root", type=Path, metavar="FOLDER", help="where the data set's files are")
    parser.add_argument("--recipe", default=DEFAULT_RECIPE, metavar="NAME", help="a recipe of --list")
    parser.add_argument("--epochs", type=int, metavar="N", help="instead of the recipe's")
    parser.add_argument("--batch-size", type=int, metavar="N", help="instead of the recipe's")
    parser.add_argument("--lr", type=float, metavar="RATE", help="peak learning rate, instead of the recipe's")
    parser.add_argument(
        "--bf16", action=argparse.BooleanOptionalAction, default=None, help="bfloat16 autocast, instead of the recipe's"
    )
    parser.add_argument("--seed", type=_seed, default=0, metavar="N", help="of initialisation, order and augmentation")
    parser.add_argument("--device", default="auto", choices=["auto", "cuda", "mps", "cpu"], help="where to train")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint, if there is one")
    parser.add_argument(
        "--weights", type=Path, default=DEFAULT_FOLDER, metavar="FOLDER", help="where weights are written"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON on stdout")
    return parser


def _seed(text: str) -> int:
    if not text.isdigit() or int(text) > _MAX_SEED:
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 to {_MAX_SEED}, got '{text}'")
    return int(text)


def _body(args: argparse.Namespace) -> None:
    if args.list:
        return _print_models(args.json)
    if args.list_datasets:
        return _print_datasets(args.json, args.data_root)
    if args.model is None:
        raise InputError(f"name a network: {', '.join(MODELS)} (train-model --list says more)")
    model = model_from_name(args.model)
    if args.summary:
        return _print_summary(model, args.json)
    return _train(model, args)


def _print_models(as_json: bool) -> None:
    rows: list[dict[str, Any]] = [
        {
            "name": m.name,
            "input": list(m.input_shape),
            "summary": m.summary,
            "recipes": [r.name for r in RECIPES[m.name]],
        }
        for m in MODELS.values()
    ]
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    for row in rows:
        shape = "x".join(str(size) for size in row["input"])
        print(f"{row['name']:<10} input {shape:<10} recipes: {', '.join(row['recipes']):<8} {row['summary']}")


def _print_datasets(as_json: bool, root: Path | None) -> None:
    rows: list[dict[str, Any]] = []
    for dataset in DATASETS.values():
        folder = find_files(dataset, root)
        rows.append({"name": dataset.name, "folder": folder and str(folder), "summary": dataset.summary})
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    for row in rows:
        where = "on disk" if row["folder"] else "not on disk: downloaded when asked for"
        print(f"{row['name']:<15} {row['summary']} ({where})")


def _print_summary(model: Model, as_json: bool) -> None:
    _need_torch()
    with interrupts.held():
        from edgeline_train.summary import summarise

    rows = summarise(model)
    if as_json:
        print(json.dumps([dataclasses.asdict(row) for row in rows], indent=2))
        return
    print(f"{model.name}: input {'x'.join(map(str, model.input_shape))}")
    print(f"{'layer':<14} {'kind':<11} {'output':<11} {'parameters':>11} {'MACs':>13}")
    for row in rows:
        shape = "x".join(map(str, row.output_shape))
        print(f"{row.name:<14} {row.kind:<11} {shape:<11} {row.parameters:>11,} {row.macs:>13,}")
    print(f"{'total':<38} {sum(r.parameters for r in rows):>11,} {sum(r.macs for r in rows):>13,}")


def _train(model: Model, args: argparse.Namespace) -> None:
    dataset = dataset_from_name(args.dataset)
    recipe = _recipe(model, args)
    path: Path = args.weights / weights_file_name(model.name, dataset.name, recipe.name)
    epochs = args.epochs or recipe.epochs[dataset.name]
    _need_torch()
    with interrupts.held():
        from edgeline_train.checkpoint import checkpoint_path
        from edgeline_train.history import history_path, write_history
        from edgeline_train.loop import Run, choose_device, train
        from edgeline_train.progress import ProgressPrinter

    checkpoint = checkpoint_path(path)
    device = choose_device(args.device)
    preprocessing = preprocessing_for(dataset, model.input_shape)
    run = Run(model, recipe, dataset.name, preprocessing, len(dataset.labels), epochs, args.seed, device)
    if args.resume and not checkpoint.exists() and path.exists():
        return _print_result(path, _finished(path, run), args.json)
    if path.exists() and not args.resume:
        note(f"{path} will be replaced when this run ends")
    if checkpoint.exists():
        note(f"{'resuming from' if args.resume else 'starting anew; --resume would have gone on from'} {checkpoint}")
    train_split, test_split = (load_split(dataset, part, args.data_root) for part in ("train", "test"))
    args.weights.mkdir(parents=True, exist_ok=True)
    note(
        f"training {model.name} on {dataset.name} ({len(train_split):,} + {len(test_split):,} images), "
        f"{epochs} epoch{'s' if epochs > 1 else ''} of batch {recipe.batch_size} on {device}"
    )
    started = time.perf_counter()
    try:
        with ProgressPrinter() as progress:
            result = train(run, train_split, test_split, progress, checkpoint, args.resume)
    except KeyboardInterrupt:
        if checkpoint.exists():
            note(f"stopped; go on with the same command and --resume (checkpoint: {checkpoint})")
        raise
    info = _info(run, result, dataset.mean, dataset.std, dataset.labels)
    write_history(history_path(path), info, result.history)
    write_weights(path, result.state, info)
    checkpoint.unlink(missing_ok=True)
    note(f"trained in {time.perf_counter() - started:.0f} s")
    return _print_result(path, info, args.json)


def _finished(path: Path, run: Run) -> WeightsInfo:
    """Return what is known of finished weights; refuse them when they came from other settings than were asked for."""
    info, settings = info_from_weights(path), run.settings()
    other = [f"{key} {info.settings.get(key)} instead of {value}" for key, value in settings.items()
             if info.settings.get(key) != value]  # fmt: skip
    if other:
        raise InputError(
            f"{path} is finished, with other settings ({', '.join(other)}): leave --resume out to train again, "
            "or name another folder with --weights"
        )
    note(f"{path} is there already, from these settings: nothing to do (train-model without --resume trains it again)")
    return info


def _recipe(model: Model, args: argparse.Namespace) -> Recipe:
    """Return the recipe with what the command line overrides."""
    recipe = recipe_for(model.name, args.recipe, args.dataset)
    for option in ("epochs", "batch_size", "lr"):
        value = getattr(args, option)
        if value is not None and not value > 0:
            raise InputError(f"--{option.replace('_', '-')} must be above 0, got {value}")
    changes = {key: getattr(args, key) for key in ("batch_size", "lr", "bf16") if getattr(args, key) is not None}
    return dataclasses.replace(recipe, **changes)


def _info(run: Run, result: Result, mean: float, std: float, labels: tuple[str, ...]) -> WeightsInfo:
    return WeightsInfo(
        model=run.model.name,
        dataset=run.dataset,
        recipe=run.recipe.name,
        seed=run.seed,
        mean=mean,
        std=std,
        labels=labels,
        epochs=run.epochs,
        best_epoch=result.best_epoch,
        accuracy=result.accuracy,
        loss=result.loss,
        selected_by="test accuracy",
        settings=run.settings(),
    )


def _print_result(path: Path, info: WeightsInfo, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"weights": str(path), **dataclasses.asdict(info)}, indent=2))
        return
    print(
        f"{path}: test accuracy {info.accuracy:.4f} "
        f"(epoch {info.best_epoch} of {info.epochs}, the best on the test split)"
    )


def _need_torch() -> None:
    missing = [name for name in ("torch", "safetensors", "rich") if find_spec(name) is None]
    if missing:
        raise MissingCapabilityError(f"training needs {', '.join(missing)}: pip install 'edgeline[train]'")


if __name__ == "__main__":
    raise SystemExit(main())
