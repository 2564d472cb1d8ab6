import gzip
import shutil
import urllib.error
from pathlib import Path

import numpy as np
import pytest
import torchvision

from edgeline.errors import InputError, ResourceError, UnknownNameError
from edgeline_train.data import DATASETS, dataset_from_name, datasets, find_files, load_split
from edgeline_train.data.idx import array_from_idx, split_from_files

EMBEDDED = Path(datasets.__file__).parent / "mnist-10k"


def idx(array):
    header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    return header + array.astype(np.uint8).tobytes()


@pytest.fixture
def copy(tmp_path):
    """The embedded files in a folder of their own, to be damaged."""
    return Path(shutil.copytree(EMBEDDED, tmp_path / "digits"))


def test_the_embedded_digits():
    train, test = (load_split(DATASETS["mnist-10k"], part) for part in ("train", "test"))
    assert train.images.shape == (8_000, 28, 28)
    assert test.images.shape == (2_000, 28, 28)
    assert len(train) == DATASETS["mnist-10k"].train_size
    # Stratified: the share of each class is the same in both, to one example.
    for label in range(10):
        assert abs((train.labels == label).mean() - (test.labels == label).mean()) < 1 / 2_000
    # Disjoint.
    assert not {image.tobytes() for image in train.images} & {image.tobytes() for image in test.images}


@pytest.mark.parametrize("name", ["mnist-10k", "fashion-mnist"])
def test_mean_and_standard_deviation_are_those_of_the_training_split(name):
    dataset = DATASETS[name]
    if find_files(dataset) is None:
        pytest.skip(f"{name} is not on disk (Debian: dataset-{name})")
    pixels = load_split(dataset, "train").images / 255
    assert len(pixels) == dataset.train_size
    assert pixels.mean() == pytest.approx(dataset.mean, abs=6e-5)
    assert pixels.std() == pytest.approx(dataset.std, abs=6e-5)


def test_the_classes_are_those_of_mnists_first_digits():
    split = [load_split(DATASETS["mnist-10k"], part) for part in ("train", "test")]
    counts = sum(np.bincount(part.labels, minlength=10) for part in split)
    # The first 10,000 labels of MNIST's training set, counted.
    assert counts.tolist() == [1001, 1127, 991, 1032, 980, 863, 1014, 1070, 944, 978]


@pytest.mark.parametrize("layout", ["flat", "own folder", "torchvision", "torchvision's root", "not gzipped"])
def test_data_root_layouts(tmp_path, layout):
    folders = {"own folder": "fashion-mnist", "torchvision": "FashionMNIST/raw", "torchvision's root": "raw"}
    folder = tmp_path / folders.get(layout, "")
    shutil.copytree(EMBEDDED, folder, dirs_exist_ok=True)
    if layout == "not gzipped":
        for path in folder.glob("*.gz"):
            path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
            path.unlink()
    assert find_files(DATASETS["fashion-mnist"], tmp_path) == folder
    assert len(load_split(DATASETS["fashion-mnist"], "test", tmp_path)) == 2_000


def test_debians_folder_is_found(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    if not Path("/usr/share/datasets/fashion-mnist").is_dir():
        pytest.skip("Debian's package dataset-fashion-mnist is not installed")
    split = load_split(DATASETS["fashion-mnist"], "train")
    assert split.images.shape == (60_000, 28, 28)
    assert np.bincount(split.labels).tolist() == [6_000] * 10


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda c: c[: len(c) // 2], "is damaged"),
        (lambda c: b"junk" + c, "is damaged"),
        (lambda c: gzip.compress(gzip.decompress(c)[:-1]), "its header says 1568016 bytes, it has 1568015"),
        (lambda c: gzip.compress(gzip.decompress(c) + b"x"), "it has 1568017"),
        (lambda c: gzip.compress(b"\0\0\x0b\3" + gzip.decompress(c)[4:]), "is no IDX file of bytes with 3"),
        (lambda c: gzip.compress(b"\0\0"), "is no IDX file"),
    ],
)
def test_damaged_files_are_refused_by_name(copy, damage, words):
    path = copy / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match=words) as caught:
        load_split(DATASETS["mnist"], "test", copy)
    assert path.name in str(caught.value)


def test_an_idx_file_by_hand(tmp_path):
    array = np.arange(24).reshape(2, 3, 4)
    (tmp_path / "a").write_bytes(idx(array))
    np.testing.assert_array_equal(array_from_idx(tmp_path / "a", 3), array)


@pytest.mark.parametrize(
    ("images", "labels", "words"),
    [
        (np.zeros((3, 2, 2)), np.zeros(2), "has 3 images, .* has 2 labels"),
        (np.zeros((0, 2, 2)), np.zeros(0), "the test split has no examples"),
        (np.zeros((2, 2, 2)), np.array([1, 10]), "holds the label 10; the data set has 10 classes"),
    ],
)
def test_files_that_do_not_belong_together(tmp_path, images, labels, words):
    (tmp_path / "i").write_bytes(idx(images))
    (tmp_path / "l").write_bytes(idx(labels))
    with pytest.raises(InputError, match=words):
        split_from_files(tmp_path / "i", tmp_path / "l", "test", 10)


def test_a_missing_half_is_named(copy):
    (copy / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(InputError, match="lacks t10k-labels-idx1-ubyte .or .gz. of mnist"):
        load_split(DATASETS["mnist"], "test", copy)


def test_half_a_download_is_not_taken_for_the_data_set(tmp_path, monkeypatch):
    half = tmp_path / "data" / "MNIST" / "raw"
    half.mkdir(parents=True)
    shutil.copy(EMBEDDED / "train-images-idx3-ubyte.gz", half)
    monkeypatch.chdir(tmp_path)
    assert find_files(DATASETS["mnist"]) is None


def test_no_network_names_the_way_on(tmp_path, monkeypatch):
    def no_network(root, **_keywords):
        (Path(root) / "MNIST" / "raw").mkdir(parents=True)  # as torchvision does before it tries
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torchvision.datasets, "MNIST", no_network)
    with pytest.raises(
        ResourceError, match="or take mnist-10k instead, which is embedded and needs no network"
    ) as caught:
        load_split(DATASETS["mnist"], "train")
    assert "\n" not in str(caught.value)
    assert "Name or service not known" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_download_that_works_is_read(tmp_path, monkeypatch):
    def download(root, **_keywords):
        shutil.copytree(EMBEDDED, Path(root) / "MNIST" / "raw")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torchvision.datasets, "MNIST", download)
    assert len(load_split(DATASETS["mnist"], "test")) == 2_000
    assert find_files(DATASETS["mnist"]) == Path("data/MNIST/raw")


def test_a_data_root_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="is not a folder"):
        load_split(DATASETS["mnist"], "train", tmp_path / "none")


def test_the_embedded_digits_are_not_taken_from_a_data_root(tmp_path, capsys):
    """Another data set's files have the same names; they must not be judged on as if they were these."""
    other = DATASETS["mnist"]
    for stem in ("train-images-idx3-ubyte", "t10k-images-idx3-ubyte"):
        (tmp_path / stem).write_bytes(idx(np.zeros((3, 28, 28))))
    for stem in ("train-labels-idx1-ubyte", "t10k-labels-idx1-ubyte"):
        (tmp_path / stem).write_bytes(idx(np.zeros(3)))
    assert len(load_split(other, "test", tmp_path)) == 3
    assert len(load_split(DATASETS["mnist-10k"], "test", tmp_path)) == 2_000
    assert "--data-root does not apply" in capsys.readouterr().err


def test_files_in_the_root_itself_are_one_data_sets_only(tmp_path):
    """Where two data sets are read from one root, only the one that judges may lie in it without a folder."""
    shutil.copytree(EMBEDDED, tmp_path, dirs_exist_ok=True)
    fashion = DATASETS["fashion-mnist"]
    assert find_files(fashion, tmp_path) == tmp_path
    assert find_files(fashion, tmp_path, named=True) is None
    shutil.copytree(EMBEDDED, tmp_path / "FashionMNIST" / "raw")
    assert find_files(fashion, tmp_path, named=True) == tmp_path / "FashionMNIST" / "raw"


def test_an_unknown_data_set():
    with pytest.raises(UnknownNameError, match="did you mean mnist"):
        dataset_from_name("mnst")
