"""The command `train-model`."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from edgeline import interrupts
from edgeline.command import Parser, run_command
from edgeline.errors import InputError, MissingCapabilityError
from edgeline_train.data.datasets import DATASETS, find_files
from edgeline_train.models import MODELS, Model, model_from_name
from edgeline_train.models.weights import DEFAULT_FOLDER, DEFAULT_RECIPE
from edgeline_train.recipes import RECIPES, recipe_names

EPILOG = """examples:
  train-model lenet
  train-model lenet --summary
  train-model lenet --recipe d2l --tensorboard
  train-model lenet --qat
  train-model alexnet --dataset fashion-mnist --data-root ~/data --resume
  train-model lenet-relu --sweep batch-size=32,64,128,256
  train-model lenet --dataset fashion-mnist --plot-activations coat,sweater
  torchrun --nproc-per-node 2 --max-restarts 3 -m edgeline_train lenet"""


_MAX_SEED = 2**31 - 1


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return run_command(_parser(), _body, argv)


def _parser() -> argparse.ArgumentParser:
    parser = Parser("train-model", "Train a network and write its weights as safetensors.", EPILOG)
    parser.add_argument("model", metavar="MODEL", nargs="?", help=f"one of: {', '.join(MODELS)}")
    parser.add_argument("--json", action="store_true", help="print the result as JSON on stdout")
    tell = parser.add_argument_group("instead of training")
    tell.add_argument("--list", action="store_true", help="list the networks; with MODEL, its recipes too")
    tell.add_argument("--list-datasets", action="store_true", help="list the data sets and where they are on disk")
    tell.add_argument("--summary", action="store_true", help="print each layer's shape, parameters and MACs")
    tell.add_argument(
        "--plot-activations", metavar="CLASS,...",
        help="draw what the first two layers of the trained network make of a test image of each class",
    )  # fmt: skip
    what = parser.add_argument_group("what is trained")
    what.add_argument("--dataset", metavar="NAME", help=f"instead of the recipe's first: {', '.join(DATASETS)}")
    what.add_argument("--data-root", type=Path, metavar="FOLDER", help="where the data set's files are")
    what.add_argument("--recipe", default=DEFAULT_RECIPE, metavar="NAME", help="a recipe of --list")
    what.add_argument("--seed", type=_seed, default=0, metavar="N", help="of initialisation, order and augmentation")
    what.add_argument("--qat", action="store_true", help="fine-tune finished weights for int8 (needs a run without it)")
    what.add_argument("--qat-weight-bits", type=int, choices=range(2, 9), metavar="N", help="2 to 8, of weights (8)")
    change = parser.add_argument_group("instead of the recipe's own")
    change.add_argument("--epochs", type=int, metavar="N", help="passes over the training images")
    change.add_argument("--batch-size", type=int, metavar="N", help="images a step")
    change.add_argument("--lr", type=float, metavar="RATE", help="peak learning rate")
    change.add_argument("--augment", metavar="NAME,...", help="affine, flip, crop, jitter, erase; or none")
    change.add_argument("--label-smoothing", type=float, metavar="SHARE", help="from 0 to below 1")
    change.add_argument("--bf16", action=argparse.BooleanOptionalAction, default=None, help="bfloat16 autocast")
    how = parser.add_argument_group("how it is trained")
    how.add_argument("--device", default="auto", choices=["auto", "cuda", "mps", "cpu"], help="where to train")
    how.add_argument("--resume", action="store_true", help="go on from the last checkpoint, if there is one")
    how.add_argument("--patience", type=int, metavar="N", help="stop after N epochs without a better test accuracy")
    how.add_argument(
        "--compile", action=argparse.BooleanOptionalAction, default=None,
        help="compile the training step (torch.compile); on GPUs the default, on a CPU it seldom pays",
    )  # fmt: skip
    how.add_argument("--sweep", metavar="OPTION=A,B,...", help="train once for each value; a table and a plot of them")
    write = parser.add_argument_group("what is written")
    write.add_argument(
        "--weights", type=Path, default=DEFAULT_FOLDER, metavar="FOLDER", help="where weights are written"
    )
    write.add_argument("--keep", action="store_true", help="keep the checkpoint of every epoch, not only the last")
    write.add_argument(
        "--tensorboard", nargs="?", type=Path, const=Path("runs"), metavar="FOLDER",
        help="write scalars and sample activations for TensorBoard (below ./runs)",
    )  # fmt: skip
    return parser


def _seed(text: str) -> int:
    if not text.isdigit() or int(text) > _MAX_SEED:
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 to {_MAX_SEED}, got '{text}'")
    return int(text)


def _body(args: argparse.Namespace) -> None:
    if args.list:
        named = list(MODELS.values()) if args.model is None else [model_from_name(args.model)]
        return _print_models(named, args.json, recipes=args.model is not None)
    if args.list_datasets:
        return _print_datasets(args.json, args.data_root)
    if args.model is None:
        raise InputError(f"name a network: {', '.join(MODELS)} (train-model --list says more)")
    model = model_from_name(args.model)
    _need_torch()
    if args.summary:
        return _print_summary(model, args.json)
    _check_together(args)
    with interrupts.held():
        if args.plot_activations is not None:
            from edgeline_train.command_activations import run
        elif args.sweep is not None:
            from edgeline_train.command_sweep import run
        else:
            from edgeline_train.command_train import run
    return run(model, args)


def _check_together(args: argparse.Namespace) -> None:
    """Refuse options that one another would silently have no effect."""
    instead = [
        name for name in ("--plot-activations", "--sweep") if getattr(args, name[2:].replace("-", "_")) is not None
    ]
    if len(instead) > 1:
        raise InputError(f"{' and '.join(instead)} are two things to do: give one of them")
    if instead and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError(f"{instead[0]} runs in one process: leave torchrun out")
    if args.sweep is not None and args.qat:
        raise InputError("--sweep trains float weights, and --qat needs finished ones: sweep without --qat")


def _print_models(models: Sequence[Model], as_json: bool, recipes: bool) -> None:
    """Print the networks, and with `recipes` a paragraph on each of theirs."""
    rows: list[dict[str, Any]] = [
        {
            "name": m.name,
            "input": list(m.input_shape),
            "summary": m.summary,
            "recipes": [
                {"name": r.name, "datasets": list(r.epochs), "epochs": dict(r.epochs), "source": r.source}
                for r in RECIPES[m.name]
            ],
        }
        for m in models
    ]
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    wide = max(len(name) for name in MODELS)
    for row in rows:
        shape = "x".join(str(size) for size in row["input"])
        names = ", ".join(recipe_names(row["name"]))
        print(f"{row['name']:<{wide}} input {shape:<10} recipes: {names:<15} {row['summary']}")
        for recipe in RECIPES[row["name"]] if recipes else ():
            epochs = ", ".join(f"{dataset} ({count} epochs)" for dataset, count in recipe.epochs.items())
            extras = [*recipe.augment, *(name for name in ("bf16", "channels_last") if getattr(recipe, name))]
            print(f"\n{recipe.name}: {epochs}")
            print(
                f"  {recipe.optimizer} at {recipe.lr:g}, {recipe.schedule}, batch {recipe.batch_size}",
                *extras,
                sep=", ",
            )
            print(f"  source: {recipe.source}")


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


def _need_torch() -> None:
    missing = [
        name for name in ("torch", "torchvision", "safetensors", "rich", "matplotlib") if find_spec(name) is None
    ]
    if missing:
        raise MissingCapabilityError(f"training needs {', '.join(missing)}: pip install 'edgeline[train]'")


if __name__ == "__main__":
    raise SystemExit(main())
