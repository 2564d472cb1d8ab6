"""The batches of an epoch: shuffled, augmented, shared out among processes, turned into the network's input."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from edgeline.manifest import Preprocessing
from edgeline_train.augment import augmented
from edgeline_train.data.pixels import input_from_pixels
from edgeline_train.recipes import Recipe
from edgeline_train.team import ALONE, Team

_APART = 1 << 32  # between the seeds of two processes; epochs and runs are nearer to each other


def steps_of(examples: int, recipe: Recipe) -> int:
    """Return how many batches an epoch has; the last may be smaller."""
    return -(-examples // recipe.batch_size)


def batches(
    images: Tensor,
    labels: Tensor,
    recipe: Recipe,
    preprocessing: Preprocessing,
    seed: int,
    team: Team = ALONE,
) -> Iterator[tuple[Tensor, Tensor, int]]:
    """Yield (inputs, labels, size of the whole batch) for one epoch; the inputs are this process's share of the batch.

    Order and augmentation hang on `seed` alone, so that a team sees what one process would. What is random in the
    network (dropout) goes on from there, in each process of a team with numbers of its own.
    """
    torch.manual_seed(seed)
    order = torch.randperm(len(labels))
    shuffled, labels = images[order.to(images.device)], labels[order.to(labels.device)]
    if recipe.augment:
        shuffled = augmented(shuffled, recipe.augment)
    if not team.leads:
        torch.manual_seed(seed + _APART * team.rank)
    for start in range(0, len(labels), recipe.batch_size):
        end = min(start + recipe.batch_size, len(labels))
        share = slice(start + team.rank, end, team.size)
        inputs = input_from_pixels(shuffled[share], preprocessing)
        if recipe.channels_last:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        yield inputs, labels[share], end - start
