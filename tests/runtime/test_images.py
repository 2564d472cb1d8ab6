import builtins

import numpy as np
import pytest
from PIL import Image

from edgeline.errors import InputError, MissingCapabilityError
from edgeline.images import array_from_file

PIXELS = np.arange(6, dtype=np.uint8).reshape(2, 3) * 50


@pytest.mark.parametrize(
    "content",
    [
        b"P5\n3 2\n255\n" + PIXELS.tobytes(),
        b"P5 # a comment\n# another\n3 2 255 " + PIXELS.tobytes(),
        b"P2\n3 2\n255\n0 50 100\n150 200 250\n",
        b"P5\n3 2\n65535\n" + (PIXELS.astype(">u2") * 257).tobytes(),
        b"P2\n3 2\n5\n0 1 2 3 4 5\n",
    ],
    ids=["binary", "comments", "text", "16-bit", "scaled"],
)
def test_pgm(tmp_path, content):
    path = tmp_path / "digit.pgm"
    path.write_bytes(content)
    expected = PIXELS if b"\n5\n" not in content else np.arange(6).reshape(2, 3) * 51
    np.testing.assert_array_equal(array_from_file(path), expected[np.newaxis])


@pytest.mark.parametrize("mode", ["L", "RGB", "P", "I;16", "RGBA"])
def test_png(tmp_path, mode):
    image = Image.fromarray(PIXELS.astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(PIXELS).convert(mode)
    image.save(tmp_path / "a.png")
    np.testing.assert_array_equal(array_from_file(tmp_path / "a.png"), PIXELS[np.newaxis])
    if mode == "RGB":
        assert array_from_file(tmp_path / "a.png", grey=False).shape == (1, 2, 3, 3)


def test_npy_comes_as_it_is(tmp_path):
    array = np.ones((2, 1, 28, 28), np.float32)
    np.save(tmp_path / "a.npy", array)
    np.testing.assert_array_equal(array_from_file(tmp_path / "a.npy"), array)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.pgm", b"P6\n1 1\n255\n\x00", "is no PGM image"),
        ("a.pgm", b"P5\n3 2\n255\n\x00", "is truncated or damaged"),
        ("a.pgm", b"P5\n3 2\n99999\n\x00", "is no PGM image"),
        ("a.pgm", b"P2\n1 1\n5\n9\n", "not between 0 and the maximum 5"),
        ("a.pgm", b"P2\n1 1\n5\n-1\n", "not between 0 and the maximum 5"),
        ("a.pgm", b"P2\n1 1\n5\n" + b"9" * 5000, "is truncated or damaged"),
        ("a.pgm", b"P2\n" + b"9" * 5000 + b" 1\n5\n9\n", "is no PGM image"),
        ("a.npy", b"PK\x03\x04" + b"junk" * 9, "is no .npy array"),
        ("a.png", b"nothing", "is no PNG image"),
        ("a.npy", b"nothing", "is no .npy array"),
        ("a.jpg", b"", "edgeline reads .npy, .pgm, .png"),
    ],
)
def test_damaged_files_are_named(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=words):
        array_from_file(tmp_path / name)


def test_a_missing_file(tmp_path):
    with pytest.raises(InputError, match="there is no file"):
        array_from_file(tmp_path / "none.npy")


def test_png_without_pillow_names_the_way_on(tmp_path, monkeypatch):
    real = builtins.__import__

    def without_pillow(name, *args, **keywords):
        if name == "PIL":
            raise ImportError(name)
        return real(name, *args, **keywords)

    (tmp_path / "a.png").touch()
    monkeypatch.setattr(builtins, "__import__", without_pillow)
    with pytest.raises(MissingCapabilityError, match="pip install pillow"):
        array_from_file(tmp_path / "a.png")
