import math

import numpy as np
import pytest
import torch
from torch import nn

from edgeline.manifest import Preprocessing
from edgeline_train.data import Split
from edgeline_train.evaluation import evaluate, tensors_from_split
from edgeline_train.team import Team

PLAIN = Preprocessing(None, 1.0, (0.0,), (1.0,))


class FirstPixels(nn.Module):
    """Its three logits are the first three pixels of the image."""

    def forward(self, x):
        return x[:, 0, 0, :3]


def split(pixels, labels):
    images = np.zeros((len(pixels), 28, 28), np.uint8)
    images[:, 0, :3] = pixels
    return Split(images, np.asarray(labels, np.int64), "test")


# Predictions 0, 1, 1, 0, 0 of the true classes 0, 0, 1, 2, 2.
FIVE = tensors_from_split(split([[2, 0, 0], [0, 2, 0], [0, 2, 0], [2, 0, 0], [2, 0, 0]], [0, 0, 1, 2, 2]), "cpu")


def test_counts_and_loss_by_hand():
    result = evaluate(FirstPixels(), FIVE, PLAIN, 3, "cpu")
    assert result.confusion.tolist() == [[1, 1, 0], [0, 1, 0], [2, 0, 0]]
    assert result.accuracy == 2 / 5
    right, wrong = -math.log(math.e**2 / (math.e**2 + 2)), -math.log(1 / (math.e**2 + 2))
    assert result.loss == pytest.approx((2 * right + 3 * wrong) / 5, rel=1e-6)


def test_more_than_one_batch_and_a_class_that_never_occurs():
    many = tensors_from_split(split([[1, 0, 0]] * 601, [0] * 601), "cpu")
    assert evaluate(FirstPixels(), many, PLAIN, 3, "cpu").confusion.tolist() == [[601, 0, 0], [0, 0, 0], [0, 0, 0]]


def test_each_process_of_a_team_takes_its_share(monkeypatch):
    """Two processes, one after the other: what they would add up is the whole."""
    monkeypatch.setattr("edgeline_train.team.distributed.all_reduce", lambda tensor: None)
    shares = [evaluate(FirstPixels(), FIVE, PLAIN, 3, "cpu", team=Team(rank, 2)).confusion for rank in (0, 1)]
    assert [int(share.sum()) for share in shares] == [3, 2]
    assert torch.equal(shares[0] + shares[1], evaluate(FirstPixels(), FIVE, PLAIN, 3, "cpu").confusion)


def test_the_network_is_judged_in_eval_mode():
    network = nn.Sequential(FirstPixels(), nn.Dropout(0.99))
    assert evaluate(network, FIVE, PLAIN, 3, "cpu").accuracy == 2 / 5
    assert not network.training
