import pytest
import torch

from edgeline.errors import UnknownNameError
from edgeline_train.augment import AUGMENTATIONS, augmented, check_augmentations


def squares(count=200):
    images = torch.zeros(count, 28, 28, dtype=torch.uint8)
    images[:, 10:18, 8:15] = 200
    return images


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_each_changes_some_images_and_keeps_shape_and_type(name):
    torch.manual_seed(0)
    images = squares()
    changed = augmented(images, [name])
    assert (changed.shape, changed.dtype) == (images.shape, torch.uint8)
    differing = (changed != images).flatten(1).any(1)
    assert 20 < int(differing.sum()) <= 200
    torch.testing.assert_close(images, squares())  # the caller's stay


def test_affine_moves_but_keeps_the_digit():
    torch.manual_seed(0)
    moved = augmented(squares(), ["affine"])
    ink = moved.float().sum(dim=(1, 2)) / squares(1).float().sum()
    assert 0.7 < float(ink.min()) < float(ink.max()) < 1.4
    assert len({image.numpy().tobytes() for image in moved}) > 190  # each image has a draw of its own


def test_flips_are_mirror_images_and_about_half():
    torch.manual_seed(0)
    images = squares(400)
    changed = augmented(images, ["flip"])
    flipped = (changed != images).flatten(1).any(1)
    assert 150 < int(flipped.sum()) < 250
    assert bool((changed[flipped] == images.flip(2)[flipped]).all())


def test_crops_shift_by_up_to_two_pixels():
    torch.manual_seed(0)
    changed = augmented(squares(400), ["crop"])
    rows = {int(image.any(1).nonzero()[0]) for image in changed}
    columns = {int(image.any(0).nonzero()[0]) for image in changed}
    assert rows == {8, 9, 10, 11, 12}
    assert columns == {6, 7, 8, 9, 10}


def test_neighbours_in_a_batch_have_different_draws_and_order_is_kept():
    torch.manual_seed(0)
    images = torch.arange(60, dtype=torch.uint8).view(60, 1, 1).expand(60, 28, 28).contiguous()
    flips = augmented(images, ["flip"], hands=8)
    assert flips[:, 0, 0].tolist() == list(range(60))
    torch.manual_seed(0)
    ramp = torch.arange(28, dtype=torch.uint8).expand(64, 28, 28).contiguous()
    mirrored = augmented(ramp, ["flip"], hands=8)[:, 0, 0] == 27
    assert mirrored.view(8, 8).eq(mirrored[:8]).all()  # image i is in hand i mod 8
    assert 0 < int(mirrored[:8].sum()) < 8


def test_the_same_seed_gives_the_same_images():
    def draw(seed):
        torch.manual_seed(seed)
        return augmented(squares(), list(AUGMENTATIONS))

    assert torch.equal(draw(3), draw(3))
    assert not torch.equal(draw(3), draw(4))


def test_unknown_names():
    with pytest.raises(UnknownNameError, match="unknown augmentation 'flop' .did you mean flip"):
        check_augmentations(["crop", "flop"])
