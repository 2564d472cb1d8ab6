"""`train-model MODEL`: from the options to the weights on disk."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import time
from collections.abc import Iterator
from pathlib import Path

from edgeline.command import note
from edgeline.errors import InputError, MissingCapabilityError
from edgeline_train.augment import check_augmentations
from edgeline_train.checkpoint import Checkpoints
from edgeline_train.confusion import print_confusion
from edgeline_train.curve import plot_curve
from edgeline_train.data import Split
from edgeline_train.data.datasets import Dataset, dataset_from_name, find_or_download, load_split, preprocessing_for
from edgeline_train.data.pixels import input_from_pixels
from edgeline_train.history import history_path, write_history
from edgeline_train.live import LiveObserver
from edgeline_train.loop import Result, Run, choose_device, train
from edgeline_train.machine import machine_record
from edgeline_train.models import Model
from edgeline_train.models.weights import WeightsInfo, info_from_weights, weights_file_name, write_weights
from edgeline_train.observer import Observer, Observers
from edgeline_train.qat import FineTuning, fine_tuning_from, fine_tuning_recipe
from edgeline_train.recipes import Recipe, default_dataset, recipe_for
from edgeline_train.team import Team, joined_team, leads, own_device, restarted, team_size

_TENSORBOARD_SAMPLES = 4


def run(model: Model, args: argparse.Namespace) -> None:
    """Train and write the weights, their history and its picture; print the result."""
    dataset = dataset_from_name(args.dataset or default_dataset(model.name, args.recipe))
    recipe = _recipe(model, args, dataset.name)
    bits = _qat_bits(args, recipe)
    device = own_device(choose_device(args.device))
    standardisation = None if recipe.standardise else (0.0, 1.0)
    preprocessing = preprocessing_for(dataset, model.input_shape, model.pad, standardisation)
    epochs = args.epochs or recipe.epochs[dataset.name]
    qat = None if bits is None else _fine_tuning(model, recipe, dataset, bits, device, args)
    settings = Run(
        model, recipe, dataset.name, preprocessing, len(dataset.labels), epochs, args.seed, device, args.patience, qat,
        device.startswith("cuda") if args.compile is None else args.compile,
    )  # fmt: skip
    path: Path = args.weights / weights_file_name(model.name, dataset.name, recipe.name, bits)
    checkpoints = Checkpoints.beside(path, args.keep)
    if args.resume and not checkpoints.last.exists() and path.exists():
        return _print_result(path, _finished(path, settings), args.json)
    started = time.perf_counter()
    with joined_team(device) as team:
        result = _train(settings, dataset, path, checkpoints, team, args)
    if not team.leads:
        return None
    state, learnt = (result.state, None) if qat is None else qat.finish(model.build(settings.classes), result.state)
    info = dataclasses.replace(_info(settings, result, dataset), qat=learnt)
    matrix = result.evaluation.confusion.tolist()
    # The weights come after their history, since they say that the run is finished; the picture can be drawn again.
    write_history(history_path(path), info, machine_record(device, team.size), result.history, matrix)
    write_weights(path, state, info)
    checkpoints.remove()
    picture = path.with_suffix(".curve.png")
    plot_curve(result.history, picture, f"{model.name} on {dataset.name}, recipe {recipe.name}, seed {args.seed}")
    print_confusion(matrix, dataset.labels)
    note(f"trained in {time.perf_counter() - started:.0f} s; {picture.name} and {history_path(path).name} say how")
    return _print_result(path, info, args.json)


def _train(
    settings: Run, dataset: Dataset, path: Path, checkpoints: Checkpoints, team: Team, args: argparse.Namespace
) -> Result:
    """Read the data and train; the lead tells how it goes."""
    resume = args.resume or restarted()
    if team.leads:
        _announce(path, checkpoints, resume, team)
        args.weights.mkdir(parents=True, exist_ok=True)
    team.from_lead(lambda: str(find_or_download(dataset, args.data_root)))  # one download, not one a process
    splits = load_split(dataset, "train", args.data_root), load_split(dataset, "test", args.data_root)
    if team.leads:
        epochs, several = settings.epochs, f" in each of {team.size} processes" if team.size > 1 else ""
        sizes = f"{len(splits[0]):,} + {len(splits[1]):,} images"
        note(
            f"training {settings.model.name} on {dataset.name} ({sizes}), {epochs} epoch{'s' if epochs > 1 else ''} of "
            f"batch {settings.recipe.batch_size} on {settings.device}{several}"
        )
        if settings.qat is not None:
            bits, accuracy = settings.qat.weight_bits, settings.qat.float_accuracy
            note(f"from weights of accuracy {accuracy:.4f}, rounded to {bits} bits, activations to 8")
    with _told(settings, splits[1], dataset, args) as observers:
        try:
            return train(settings, *splits, observers, checkpoints, resume, team)
        except KeyboardInterrupt:
            if team.leads and checkpoints.last.exists():
                note(f"stopped; go on with the same command and --resume (checkpoint: {checkpoints.last})")
            raise


@contextlib.contextmanager
def _told(settings: Run, test_split: Split, dataset: Dataset, args: argparse.Namespace) -> Iterator[Observers]:
    """Give those who are told of the run: none but in the lead."""
    told: list[Observer] = []
    if leads() and args.tensorboard is not None:
        told.append(_tensorboard(settings, test_split, dataset, args.tensorboard))
    with contextlib.ExitStack() as stack:
        if leads():
            told.append(stack.enter_context(LiveObserver()))
        observers = Observers(*told)
        stack.callback(observers.close)
        yield observers


def _tensorboard(settings: Run, test_split: Split, dataset: Dataset, folder: Path) -> Observer:
    """Write below `folder`, with the first test image of each of four classes as samples."""
    from edgeline_train.tensorboard import TensorBoardObserver

    bits = None if settings.qat is None else settings.qat.weight_bits
    own = folder / Path(weights_file_name(settings.model.name, settings.dataset, settings.recipe.name, bits)).stem
    note(f"TensorBoard's files: {own} (look at them with: tensorboard --logdir {folder})")
    classes = range(min(_TENSORBOARD_SAMPLES, len(dataset.labels)))
    chosen = [int((test_split.labels == label).argmax()) for label in classes]
    return TensorBoardObserver(
        own,
        test_split.images[chosen],
        [dataset.labels[test_split.labels[index]] for index in chosen],
        lambda pixels: input_from_pixels(pixels, settings.preprocessing),
        settings.device,
    )


def _announce(path: Path, checkpoints: Checkpoints, resume: bool, team: Team) -> None:
    if path.exists() and not resume:
        note(f"{path} will be replaced when this run ends")
    if not checkpoints.last.exists():
        return
    if resume:
        note(f"resuming from {checkpoints.last}")
    elif team.size == 1:
        note(f"starting anew; --resume would have gone on from {checkpoints.last}")
    else:  # where torchrun starts the processes again, they must not take an earlier run's for theirs
        aside = checkpoints.last.with_suffix(".before.pt")
        checkpoints.last.replace(aside)
        note(f"starting anew; the checkpoint of an earlier run is now {aside}")


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
    if leads():
        note(f"{path} is there already, from these settings: nothing to do (without --resume it is trained again)")
    return info


def _recipe(model: Model, args: argparse.Namespace, dataset: str) -> Recipe:
    """Return the recipe with what the command line overrides."""
    recipe = recipe_for(model.name, args.recipe, dataset)
    if args.qat:
        recipe = fine_tuning_recipe(recipe)
    for option in ("epochs", "batch_size", "lr", "patience"):
        value = getattr(args, option)
        if value is not None and not value > 0:
            raise InputError(f"--{option.replace('_', '-')} must be above 0, got {value}")
    if args.label_smoothing is not None and not 0 <= args.label_smoothing < 1:
        raise InputError(f"--label-smoothing must be from 0 to below 1, got {args.label_smoothing}")
    options = ("batch_size", "lr", "bf16", "label_smoothing")
    changes = {key: getattr(args, key) for key in options if getattr(args, key) is not None}
    if args.augment is not None:
        names = [name for name in args.augment.split(",") if name and name != "none"]
        check_augmentations(names)
        changes["augment"] = tuple(names)
    return dataclasses.replace(recipe, **changes)


def _qat_bits(args: argparse.Namespace, recipe: Recipe) -> int | None:
    """Return to how many bits weights are rounded, None without --qat."""
    if not args.qat:
        if args.qat_weight_bits is not None:
            raise InputError("--qat-weight-bits is for --qat; give both, or leave it out")
        return None
    if recipe.bf16:
        raise InputError("--qat trains in float32: bfloat16 has too few digits for the grids of int8; leave --bf16 out")
    return args.qat_weight_bits or 8


def _fine_tuning(
    model: Model, recipe: Recipe, dataset: Dataset, bits: int, device: str, args: argparse.Namespace
) -> FineTuning:
    """Read the finished weights of this recipe, where training without --qat writes them."""
    if team_size() > 1:
        raise InputError("--qat trains in one process: each would find ranges of its own; leave torchrun out")
    if device == "mps":
        raise MissingCapabilityError("torch has no fake quantisation on mps: give --device cpu")
    path = args.weights / weights_file_name(model.name, dataset.name, recipe.name)
    command = f"train-model {model.name} --dataset {dataset.name} --recipe {recipe.name} --weights {args.weights}"
    return fine_tuning_from(path, model, len(dataset.labels), bits, command)


def _info(run: Run, result: Result, dataset: Dataset) -> WeightsInfo:
    return WeightsInfo(
        model=run.model.name,
        dataset=run.dataset,
        recipe=run.recipe.name,
        seed=run.seed,
        mean=run.preprocessing.mean[0],
        std=run.preprocessing.std[0],
        labels=dataset.labels,
        epochs=len(result.history),
        best_epoch=result.best_epoch,
        accuracy=result.evaluation.accuracy,
        loss=result.evaluation.loss,
        selected_by="test accuracy",
        settings=run.settings(),
    )


def _print_result(path: Path, info: WeightsInfo, as_json: bool) -> None:
    if not leads():
        return
    if as_json:
        print(json.dumps({"weights": str(path), **dataclasses.asdict(info)}, indent=2))
        return
    print(
        f"{path}: test accuracy {info.accuracy:.4f} "
        f"(epoch {info.best_epoch} of {info.epochs}, the best on the test split)"
    )
