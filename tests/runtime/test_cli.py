import json
import re
import shutil

import numpy as np
import pytest

import edgeline.cli
from edgeline.backends import ENGINES
from edgeline_train.data import DATASETS, load_split
from tests.conftest import one_line

MAIN = edgeline.cli.main


@pytest.fixture(scope="module")
def digits():
    return load_split(DATASETS["mnist-10k"], "test")


def write_pgm(path, pixels):
    path.write_bytes(b"P5\n%d %d\n255\n" % (pixels.shape[1], pixels.shape[0]) + pixels.tobytes())
    return path


def test_info(exported, command):
    code, out, _ = command(MAIN, "info", exported)
    assert code == 0
    assert "lenet, trained on mnist-10k" in out
    assert "all hashes right" in out
    code, out, _ = command(MAIN, "info", exported, "--json")
    assert json.loads(out)["name"] == "lenet"


def test_padded_images(artefact, command, tmp_path, edit_manifest):
    """A network that says it takes 24 x 24 images with 2 black pixels around them."""
    preprocessing = {"resize": None, "scale": 1 / 255, "mean": [0.1313], "std": [0.3089], "pad": [2, 2]}
    edit_manifest(artefact, preprocessing=preprocessing)
    code, out, _ = command(MAIN, "info", artefact)
    assert code == 0
    assert "pixels    24 x 24, with 2 rows and 2 columns of black added on each side" in out.splitlines()
    code, out, _ = command(MAIN, "run", artefact, write_pgm(tmp_path / "small.pgm", np.zeros((24, 24), np.uint8)))
    assert code == 0
    code, out, err = command(MAIN, "run", artefact, write_pgm(tmp_path / "large.pgm", np.zeros((28, 28), np.uint8)))
    assert (code, out) == (2, "")
    assert "expected images of 24 x 24 pixels (they are padded to 28 x 28 here), got 28 x 28" in one_line(err)


def test_run_prints_label_and_probabilities(exported, command, tmp_path, digits):
    paths = [write_pgm(tmp_path / f"{i}.pgm", digits.images[i]) for i in range(20)]
    code, out, _ = command(MAIN, "run", exported, *paths, "--json", "--top", 2)
    assert code == 0
    rows = json.loads(out)
    right = sum(row["top"][0]["label"] == str(label) for row, label in zip(rows, digits.labels[:20], strict=True))
    assert right >= 14
    for row in rows:
        assert len(row["top"]) == 2
        assert 1 >= row["top"][0]["probability"] >= row["top"][1]["probability"] >= 0
    code, out, _ = command(MAIN, "run", exported, paths[0])
    assert code == 0
    assert out.startswith(f"{paths[0]}: ")


@pytest.mark.parametrize("kind", ["pixels", "one image", "input", "one input"])
def test_run_takes_npy_of_pixels_and_of_input(exported, command, tmp_path, digits, kind):
    batch = np.load(exported / "selftest.npz")["inputs"]
    array = {"pixels": digits.images[:16], "one image": digits.images[0], "input": batch, "one input": batch[0]}[kind]
    np.save(tmp_path / "a.npy", array)
    code, out, _ = command(MAIN, "run", exported, tmp_path / "a.npy", "--json", "--top", 10)
    assert code == 0
    rows = json.loads(out)
    assert len(rows) == (1 if kind.startswith("one") else 16)
    assert sum(guess["probability"] for guess in rows[0]["top"]) == pytest.approx(1)
    # Both ways in lead to the same digits: selftest.npz holds the first 16 of the test split.
    logits = np.load(exported / "selftest.npz")["logits"]
    assert [row["top"][0]["class"] for row in rows] == list(logits.argmax(axis=1)[: len(rows)])


def test_nan_input_is_refused(exported, command, tmp_path):
    np.save(tmp_path / "nan.npy", np.full((1, 1, 28, 28), np.nan, np.float32))
    code, out, err = command(MAIN, "run", exported, tmp_path / "nan.npy")
    assert (code, out) == (2, "")
    assert "holds NaN or infinity; the network was not run" in one_line(err)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((1, 1, 28, 28), np.float64), "expected uint8 pixels or float32 input, got float64"),
        (np.zeros((1, 1, 27, 28), np.float32), "expected float32 [N, 1, 28, 28], got float32 [1, 1, 27, 28]"),
        (np.zeros((27, 28), np.uint8), "expected images of 28 x 28 pixels, got 27 x 28"),
    ],
)
def test_arrays_that_do_not_fit(exported, command, tmp_path, array, words):
    np.save(tmp_path / "a.npy", array)
    code, _, err = command(MAIN, "run", exported, tmp_path / "a.npy")
    assert code == 2
    assert words in one_line(err)


def test_answers_before_a_file_that_fails_are_kept(exported, command, tmp_path, digits):
    good = write_pgm(tmp_path / "good.pgm", digits.images[0])
    small = write_pgm(tmp_path / "small.pgm", digits.images[0][:20])
    code, out, err = command(MAIN, "run", exported, good, small)
    assert code == 2
    assert out.startswith(f"{good}: ")
    assert f"{small}: expected images of 28 x 28 pixels, got 20 x 28: resize first" in one_line(err)


def test_selftest_passes(exported, command):
    code, out, _ = command(MAIN, "selftest", exported)
    assert code == 0
    assert out.startswith("passed: 16 inputs on onnxruntime (cpu)")
    code, out, _ = command(MAIN, "selftest", exported, "--json")
    result = json.loads(out)
    assert result["passed"] is True
    assert result["top1_agreement"] == 1


def spoil(folder, **arrays):
    path = folder / "selftest.npz"
    with np.load(path) as archive:
        content = {name: archive[name] for name in archive}
    np.savez(path, **{**content, **arrays})


def test_selftest_fails_on_other_logits(artefact, command, edit_manifest):
    logits = np.load(artefact / "selftest.npz")["logits"].copy()
    logits[3, 4] += 0.1
    spoil(artefact, logits=logits)
    edit_manifest(artefact)
    code, _, err = command(MAIN, "selftest", artefact)
    assert code == 1
    assert "failed: a logit is off by 0.1" in one_line(err)


def test_selftest_with_nan_is_refused(artefact, command, edit_manifest):
    spoil(artefact, inputs=np.full((16, 1, 28, 28), np.nan, np.float32))
    edit_manifest(artefact)
    code, _, err = command(MAIN, "selftest", artefact)
    assert code == 2
    assert "holds NaN or infinity" in one_line(err)


def test_selftest_that_is_no_archive(artefact, command, edit_manifest):
    (artefact / "selftest.npz").write_bytes(b"nothing")
    edit_manifest(artefact)
    code, _, err = command(MAIN, "selftest", artefact)
    assert code == 2
    assert "is damaged" in one_line(err)


def test_doctor(command):
    code, out, _ = command(MAIN, "doctor")
    assert code == 0
    assert "yes onnxruntime" in out
    code, out, _ = command(MAIN, "doctor", "--json")
    rows = {row["what"]: row for row in json.loads(out)}
    assert rows.keys() >= {"python", "numpy", "nvidia-gpu", *(name for name in ENGINES if name != "tensorrt")}
    assert re.fullmatch(r"ai-edge-litert \d[\d.]+; runs formats: litert", rows["litert"]["detail"])


def test_doctor_with_numpy_alone_names_c_libraries(command, monkeypatch):
    monkeypatch.setattr("edgeline.doctor.importlib.util.find_spec", lambda _name: None)
    code, out, _ = command(MAIN, "doctor")
    assert code == 0
    assert re.search(r"^yes native +libraries for \w+; runs formats: c$", out, re.MULTILINE)
    assert "-> pip install 'edgeline[onnx]'" in out
    assert re.search(r"^no +openvino +openvino is not installed; runs formats: openvino .*edgeline\[peers\]", out, re.M)


def test_doctor_without_an_engine_is_3_and_says_what_to_install(command, monkeypatch):
    monkeypatch.setattr("edgeline.doctor.importlib.util.find_spec", lambda _name: None)
    monkeypatch.setattr("edgeline.doctor.sys.platform", "aix")  # where no C library can be built
    code, out, err = command(MAIN, "doctor")
    assert code == 3
    assert "-> pip install 'edgeline[onnx]'" in out
    assert "no engine can run here" in one_line(err)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], "required"),
        (["inform"], "invalid choice: 'inform'"),
        (["info", "nowhere"], "there is no artefact at nowhere; export-model writes one"),
        (["run", "nowhere", "x.npy"], "there is no artefact at nowhere"),
        (["run", "nowhere", "x.npy", "--top", "0"], "--top must be at least 1"),
    ],
)
def test_wrong_calls_are_one_line_and_exit_2(command, argv, words):
    code, out, err = command(MAIN, *argv)
    assert (code, out) == (2, "")
    assert words in one_line(err)
    assert err.count("\n") == 1


@pytest.mark.parametrize("argv", [["info"], ["run", "x.npy"], ["selftest"]])
def test_ctrl_c(exported, command, monkeypatch, argv):
    def interrupted(*_args, **_keywords):
        raise KeyboardInterrupt

    monkeypatch.setattr(edgeline.cli, "open_artefact", interrupted)
    monkeypatch.setattr(edgeline.cli, "load", interrupted)
    code, _, err = command(MAIN, argv[0], exported, *argv[1:])
    assert code == 130
    assert one_line(err) == "edgeline: interrupted"


def test_a_damaged_artefact_is_refused_by_every_command(artefact, command, tmp_path):
    shutil.copy(artefact / "manifest.json", artefact / "model.onnx")
    np.save(tmp_path / "a.npy", np.zeros((28, 28), np.uint8))
    for argv in (["info", artefact], ["selftest", artefact], ["run", artefact, tmp_path / "a.npy"]):
        code, out, err = command(MAIN, *argv)
        assert (code, out) == (2, "")
        assert "its manifest says" in one_line(err)
