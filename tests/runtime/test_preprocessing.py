import numpy as np
import pytest
import torch
from torch.nn import functional

from edgeline.errors import ShapeError
from edgeline.manifest import Preprocessing
from edgeline.preprocessing import input_from_pixels, resize_bilinear
from edgeline_train.data import pixels

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 28, 28), dtype=np.uint8)


@pytest.mark.parametrize("size", [(224, 224), (32, 40), (28, 28), (14, 9)])
def test_resize_is_torchs_bilinear(size):
    planes = np.random.default_rng(1).random((2, 3, 28, 28), dtype=np.float32)
    expected = functional.interpolate(torch.from_numpy(planes), size, mode="bilinear", align_corners=False)
    np.testing.assert_allclose(resize_bilinear(planes, size), expected.numpy(), atol=2e-6)


@pytest.mark.parametrize("pad", [None, (2, 2), (0, 3)])
@pytest.mark.parametrize("resize", [None, (224, 224)])
def test_device_and_training_compute_the_same(resize, pad):
    preprocessing = Preprocessing(resize, 1 / 255, (0.1313,), (0.3089,), pad)
    shape = (1, *(size + 2 * more for size, more in zip(resize or (28, 28), pad or (0, 0), strict=True)))
    trained_on = pixels.input_from_pixels(torch.from_numpy(IMAGES), preprocessing).numpy()
    on_device = input_from_pixels(IMAGES, preprocessing, shape)
    assert on_device.shape == (3, *shape)
    assert on_device.dtype == np.float32
    np.testing.assert_allclose(on_device, trained_on, atol=2e-5)


def test_by_hand():
    image = np.array([[[0, 255], [51, 102]]], np.uint8)
    result = input_from_pixels(image, Preprocessing(None, 1 / 255, (0.5,), (0.25,)), (1, 2, 2))
    np.testing.assert_allclose(result[0, 0], [[-2.0, 2.0], [-1.2, -0.4]], rtol=1e-6)


def test_padding_is_black_before_it_is_standardised():
    image = np.full((1, 1, 2), 255, np.uint8)
    result = input_from_pixels(image, Preprocessing(None, 1 / 255, (0.5,), (0.25,), (1, 2)), (1, 3, 6))
    np.testing.assert_array_equal(result[0, 0], [[-2] * 6, [-2, -2, 2, 2, -2, -2], [-2] * 6])


def test_an_image_that_is_padded_already_is_refused():
    padded = Preprocessing(None, 1 / 255, (0.0,), (1.0,), (2, 2))
    with pytest.raises(
        ShapeError, match=r"expected images of 28 x 28 pixels \(they are padded to 32 x 32 here\), got 32 x 32"
    ):
        input_from_pixels(np.zeros((1, 32, 32), np.uint8), padded, (1, 32, 32))


def test_colour_images_are_moved_to_nchw():
    image = np.zeros((1, 2, 2, 3), np.uint8)
    image[..., 2] = 255
    result = input_from_pixels(image, Preprocessing(None, 1 / 255, (0.0,) * 3, (1.0,) * 3), (3, 2, 2))
    np.testing.assert_array_equal(result[0, :, 0, 0], [0, 0, 1])


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (IMAGES.astype(np.float32), "expected images as uint8"),
        (IMAGES[0], "expected images as uint8"),
        (IMAGES[:, :27], "expected images of 28 x 28 pixels, got 27 x 28"),
        (np.zeros((1, 28, 28, 3), np.uint8), r"expected images with 1 channel\(s\), got 3"),
    ],
)
def test_images_that_do_not_fit(images, words):
    with pytest.raises(ShapeError, match=words):
        input_from_pixels(images, Preprocessing(None, 1 / 255, (0.0,), (1.0,)), (1, 28, 28))
