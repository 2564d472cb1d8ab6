import json

import numpy as np
import onnx
import pytest
from PIL import Image

import edgeline_export.cli
from edgeline.errors import GateError, InputError
from edgeline.manifest import Preprocessing, TensorSpec
from edgeline_export import calibration as calibration_module
from edgeline_export.calibration import calibrate, check_fits_half
from edgeline_export.calibration_data import BATCH, calibration_data
from edgeline_export.calibration_record import calibration_json, histogram
from edgeline_export.fold import folded
from edgeline_export.ranges import BINS, RangeCollector
from edgeline_export.runner import GraphRunner
from edgeline_train.data import DATASETS, load_split

MAIN = edgeline_export.cli.main
LENET_INPUT = TensorSpec("input", (-1, 1, 28, 28), "float32", "NCHW")
DIGITS = Preprocessing(None, 1 / 255, (0.1313,), (0.3089,))


def embedded(count=48):
    return calibration_data("mnist-10k", count, LENET_INPUT, DIGITS, None)


@pytest.fixture(scope="module")
def lenet(exported):
    return folded(onnx.load(exported / "model.onnx"))


# --- the samples ------------------------------------------------------------------------------------------------------


def test_they_come_from_the_training_split_alone():
    data, train = embedded(), load_split(DATASETS["mnist-10k"], "train", None)
    assert (data.dataset, data.split, len(data)) == ("mnist-10k", "train", 48)
    assert np.array_equal(data.array, train.images[data.indices])
    assert len(set(data.indices.tolist())) == 48
    assert data.indices.max() > 4_000  # from all over the split, not its beginning
    assert set(train.labels[embedded(200).indices]) == set(range(10))


def test_they_are_the_same_every_time_and_preprocessed_as_the_model_says():
    assert np.array_equal(embedded().indices, embedded().indices)
    data = embedded()
    batch = data.network_input(data.batches()[0])
    assert batch.shape == (BATCH, 1, 28, 28)
    assert np.allclose(batch[:, 0], (data.array[:BATCH] / 255 - 0.1313) / 0.3089, atol=1e-6)


def test_too_few_samples():
    with pytest.raises(
        InputError, match=r"training split of mnist-10k has 8,000 samples, 9,000 were asked for; .*8000"
    ):
        embedded(9_000)


def test_a_file_of_inputs(tmp_path):
    inputs = np.random.default_rng(0).standard_normal((40, 1, 28, 28)).astype(np.float32)
    np.savez(tmp_path / "c.npz", inputs=inputs)
    data = calibration_data(str(tmp_path / "c.npz"), 40, LENET_INPUT, DIGITS, None)
    assert np.array_equal(np.concatenate([data.network_input(b) for b in data.batches()]), inputs)
    assert data.split is None


def test_a_file_of_another_shape(tmp_path):
    np.savez(tmp_path / "c.npz", inputs=np.zeros((40, 1, 32, 32), np.float32))
    with pytest.raises(InputError, match=r"--calibration: .*c\.npz holds float32 \[40, 1, 32, 32\], the network takes"):
        calibration_data(str(tmp_path / "c.npz"), 40, LENET_INPUT, DIGITS, None)


def test_a_folder_of_images(tmp_path):
    digits = load_split(DATASETS["mnist-10k"], "train", None).images[:20]
    for number, digit in enumerate(digits):
        Image.fromarray(digit).save(tmp_path / f"{number:02}.png")
    (tmp_path / "notes.txt").write_text("not an image")
    data = calibration_data(str(tmp_path), 20, LENET_INPUT, DIGITS, None)
    assert np.array_equal(data.array, digits)


def test_a_folder_of_colour_images_stays_in_colour(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (4, 5, 6, 3), np.uint8)
    for number, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
    colours = Preprocessing(None, 1 / 255, (0.1, 0.2, 0.3), (0.5, 0.6, 0.7))
    data = calibration_data(str(tmp_path), 4, TensorSpec("input", (-1, 3, 5, 6), "float32", "NCHW"), colours, None)
    assert np.array_equal(data.array, images)
    expected = ((images / 255 - [0.1, 0.2, 0.3]) / [0.5, 0.6, 0.7]).transpose(0, 3, 1, 2)
    assert np.allclose(data.network_input(data.array), expected, atol=1e-6)


def test_images_of_another_size_are_named(tmp_path):
    for number in range(3):
        Image.fromarray(np.full((30, 30), number, np.uint8)).save(tmp_path / f"{number}.png")
    with pytest.raises(InputError, match=r"--calibration: .*0\.png: "):
        calibration_data(str(tmp_path), 3, LENET_INPUT, DIGITS, None)


@pytest.mark.parametrize("source", ["mnist-10k", "folder"])
def test_pixels_for_a_network_whose_preprocessing_is_unknown(tmp_path, source):
    """A mean and deviation that were made up would give ranges of another network."""
    Image.fromarray(np.zeros((28, 28), np.uint8)).save(tmp_path / "0.png")
    with pytest.raises(InputError, match="how pixels become this network's input is not known; give --dataset"):
        calibration_data(source if source != "folder" else str(tmp_path), 1, LENET_INPUT, None, None)


def test_one_image_a_file(tmp_path):
    np.save(tmp_path / "many.npy", np.zeros((5, 28, 28), np.uint8))
    with pytest.raises(InputError, match="many.npy holds 5 images; a folder has one a file"):
        calibration_data(str(tmp_path), 1, LENET_INPUT, DIGITS, None)


def test_a_folder_for_a_network_whose_preprocessing_is_unknown(tmp_path):
    with pytest.raises(InputError, match="how pixels become this network's input is not known"):
        calibration_data(str(tmp_path), 3, LENET_INPUT, None, None)


def test_an_unknown_source():
    with pytest.raises(InputError, match="'nowhere' is no data set .*, no .npz file and no folder"):
        calibration_data("nowhere", 3, LENET_INPUT, DIGITS, None)


def test_batches_that_are_the_same_are_found(tmp_path):
    one, other = np.random.default_rng(0).standard_normal((2, BATCH, 1, 28, 28)).astype(np.float32)
    np.savez(tmp_path / "c.npz", inputs=np.concatenate([one, other, one]))
    with pytest.raises(GateError, match="calibration batches 0 and 2 of c.npz hold the same samples"):
        calibration_data(str(tmp_path / "c.npz"), 3 * BATCH, LENET_INPUT, DIGITS, None)


def test_images_of_two_sizes_are_refused(tmp_path):
    """Each could be resized; stored together they cannot be."""
    for number in range(3):
        Image.fromarray(np.full((30 + number, 30), number, np.uint8)).save(tmp_path / f"{number}.png")
    resized = Preprocessing((28, 28), 1 / 255, (0.1313,), (0.3089,))
    with pytest.raises(InputError, match="differ in size"):
        calibration_data(str(tmp_path), 3, LENET_INPUT, resized, None)


def test_the_last_batch_of_a_fixed_size_is_filled_up_with_samples():
    batches = calibration_module._batches(embedded(20), 7)
    assert [len(batch) for batch in batches] == [7, 7, 7]
    assert np.array_equal(batches[-1][-1], batches[0][0])


def test_the_digest_is_of_the_content(tmp_path):
    digests = []
    for value in (0.0, 1.0):
        inputs = np.random.default_rng(0).standard_normal((20, 1, 28, 28)).astype(np.float32) + np.float32(value)
        np.savez(tmp_path / "c.npz", inputs=inputs)
        digests.append(calibration_data(str(tmp_path / "c.npz"), 20, LENET_INPUT, DIGITS, None).digest())
    assert digests[0] != digests[1]


# --- the ranges -------------------------------------------------------------------------------------------------------


def test_ranges_are_those_of_all_samples(lenet):
    """Every batch counts, not the last one alone: against one run over all samples, tensor by tensor."""
    data = embedded()
    found = calibrate(lenet, data, "minmax")
    names = tuple(found.ranges)
    whole = np.concatenate([data.network_input(batch) for batch in data.batches()])
    for name, values in zip(names, GraphRunner(lenet, names).tensors(names, whole), strict=True):
        assert found.ranges[name].smallest == pytest.approx(float(values.min()), rel=1e-5, abs=1e-6)
        assert found.ranges[name].largest == pytest.approx(float(values.max()), rel=1e-5)
        assert found.ranges[name].counts.sum() == values.size
    assert names[0] == "input"
    assert names[-1] == "logits"


@pytest.mark.parametrize("method", ["percentile", "entropy"])
def test_methods_do_not_cut_the_networks_input(lenet, method):
    found = calibrate(lenet, embedded(), method)
    assert found.activation_ranges()["input"].threshold == found.ranges["input"].magnitude
    assert found.ranges["input"].threshold("entropy") < found.ranges["input"].magnitude  # it would cut it
    assert found.activation_ranges()["conv2d"].threshold < found.ranges["conv2d"].magnitude


def test_what_is_never_negative_is_known(lenet):
    cut = calibrate(lenet, embedded(), "minmax").activation_ranges()
    assert cut["sigmoid"].non_negative
    assert not cut["conv2d"].non_negative


# --- the cache --------------------------------------------------------------------------------------------------------


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGELINE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "calibration"


def test_the_second_time_is_a_hit_with_the_same_ranges(lenet, empty_cache, capsys, monkeypatch):
    first = calibrate(lenet, embedded(), "entropy")
    assert "cache miss" in capsys.readouterr().err
    monkeypatch.setattr(calibration_module, "_collect", None)  # it must not be needed
    second = calibrate(lenet, embedded(), "entropy")
    assert "cache hit" in capsys.readouterr().err
    assert (first.cache, second.cache) == ("miss", "hit")
    assert first.key == second.key
    assert first.activation_ranges() == second.activation_ranges()
    assert calibration_json(first, frozenset()) == calibration_json(second, frozenset())


def test_everything_the_ranges_depend_on_is_in_the_key(lenet, empty_cache, monkeypatch):
    other_graph = onnx.ModelProto()
    other_graph.CopyFrom(lenet)
    weight = onnx.numpy_helper.to_array(other_graph.graph.initializer[0]).copy()
    weight.flat[0] += 1e-6
    other_graph.graph.initializer[0].CopyFrom(
        onnx.numpy_helper.from_array(weight, other_graph.graph.initializer[0].name)
    )
    scaled = Preprocessing(None, 1 / 255, (0.13,), (0.3089,))
    keys = [
        calibrate(lenet, embedded(), "minmax").key,
        calibrate(other_graph, embedded(), "minmax").key,
        calibrate(lenet, embedded(47), "minmax").key,
        calibrate(lenet, calibration_data("mnist-10k", 48, LENET_INPUT, scaled, None), "minmax").key,
        calibrate(lenet, embedded(), "percentile").key,
    ]
    monkeypatch.setattr(calibration_module, "versions_of", lambda *names: {"onnxruntime": "9.9.9"})
    keys.append(calibrate(lenet, embedded(), "minmax").key)
    assert len(set(keys)) == len(keys)


def test_a_damaged_entry_is_not_used(lenet, empty_cache):
    first = calibrate(lenet, embedded(), "minmax")
    entry = next(empty_cache.glob("*.npz"))
    content = bytearray(entry.read_bytes())
    content[len(content) // 2] ^= 1
    entry.write_bytes(bytes(content))
    again = calibrate(lenet, embedded(), "minmax")
    assert again.cache == "miss"
    assert again.activation_ranges() == first.activation_ranges()


# --- fp16, records ----------------------------------------------------------------------------------------------------


def test_an_activation_that_is_too_large_for_fp16_is_named(lenet):
    found = calibrate(lenet, embedded(), "minmax")
    check_fits_half(found)
    collector = RangeCollector("conv2d")
    collector.add(np.array([16_001.0], np.float32))
    spoilt = calibration_module.Calibration(
        {**found.ranges, "conv2d": collector.result()}, "input", found.data, "minmax", found.key, "miss"
    )
    with pytest.raises(GateError, match="the activation 'conv2d' reaches 16,001 on mnist-10k; float16 ends at 65,504"):
        check_fits_half(spoilt)


def test_the_record_keeps_a_histogram_of_each_tensor(lenet):
    found = calibrate(lenet, embedded(), "minmax")
    record = json.loads(calibration_json(found, frozenset({"input"})))
    assert [tensor["threshold"] is not None for tensor in record["tensors"]] == [True] + [False] * 12
    assert [tensor["name"] for tensor in record["tensors"]] == list(found.ranges)
    assert record["key"] == found.key
    assert "cache" not in record  # a hit must give the same bytes as a miss
    for tensor in record["tensors"]:
        seen = found.ranges[tensor["name"]]
        assert sum(tensor["histogram"]["counts"]) == seen.counts.sum()
        low, high, width = tensor["histogram"]["low"], tensor["histogram"]["high"], 2 * seen.limit / BINS
        assert low <= seen.smallest < low + width * 1.01
        assert high - width * 1.01 <= seen.largest <= high + 1e-9


def test_a_histogram_of_zeros():
    collector = RangeCollector("t")
    collector.add(np.zeros(7, np.float32))
    assert histogram(collector.result())[2].tolist() == [7]
