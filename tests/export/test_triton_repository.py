"""Triton repositories on disk: layout, versions, what stays, what is refused, and what a killed export leaves."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from edgeline.errors import InputError
from edgeline_export.triton import repository as repository_module
from edgeline_export.triton import serve as serve_module
from edgeline_export.triton.serve import serve
from tests.export.triton_repositories import FILES, loadable, made_by_hand, parsed

pytest.importorskip("tritonclient", reason="tritonclient: pip install 'edgeline[triton]'")


@pytest.fixture
def models(tmp_path):
    return tmp_path / "srv" / "models"


def tree(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_several_models_lie_in_one_repository(tmp_path, models):
    for format_name in FILES:
        artefact = made_by_hand(tmp_path / format_name, format_name, labels=["a", "b", "c"])
        placed = serve(artefact, models)
        assert (placed.model, placed.version, placed.is_new) == (f"small-fp32-{format_name}", 1, True)
        for name in FILES[format_name]:
            assert (placed.folder / name).read_bytes() == FILES[format_name][name]
    assert tree(models) == [
        "small-fp32-onnx/1/model.onnx", "small-fp32-onnx/config.pbtxt", "small-fp32-onnx/labels.txt",
        "small-fp32-openvino/1/model.bin", "small-fp32-openvino/1/model.xml", "small-fp32-openvino/config.pbtxt",
        "small-fp32-openvino/labels.txt",
        "small-fp32-trt/1/model.plan", "small-fp32-trt/config.pbtxt", "small-fp32-trt/labels.txt",
    ]  # fmt: skip
    assert (models / "small-fp32-onnx/labels.txt").read_text() == "a\nb\nc\n"
    assert (models / "small-fp32-onnx/1/model.onnx").read_bytes() == (tmp_path / "onnx/model.onnx").read_bytes()
    assert set(loadable(models).values()) == {1}
    assert os.listdir(models.parent) == ["models"]


def test_without_labels_there_is_no_file_of_them(tmp_path, models):
    serve(made_by_hand(tmp_path / "a"), models)
    assert tree(models) == ["small-fp32-onnx/1/model.onnx", "small-fp32-onnx/config.pbtxt"]
    assert parsed(models / "small-fp32-onnx/config.pbtxt").output[0].label_filename == ""


def test_the_same_bytes_are_not_written_again(tmp_path, models):
    artefact = made_by_hand(tmp_path / "a", "trt")
    first = serve(artefact, models)
    before = {name: (models / name).stat().st_mtime_ns for name in tree(models)}
    second = serve(artefact, models)
    assert (second.version, second.is_new, second.folder) == (1, False, first.folder)
    assert {name: (models / name).stat().st_mtime_ns for name in tree(models)} == before


def test_other_bytes_are_the_next_version_and_the_older_stay(tmp_path, models):
    for version in (1, 2, 3):
        artefact = made_by_hand(tmp_path / f"a{version}", "trt", more={"model.plan": b"plan %d" % version})
        assert serve(artefact, models).version == version
    folder = models / "small-fp32-trt"
    assert [(folder / str(version) / "model.plan").read_bytes() for version in (1, 2, 3)] == [
        b"plan 1", b"plan 2", b"plan 3",
    ]  # fmt: skip
    assert loadable(models) == {"small-fp32-trt": 3}
    again = serve(made_by_hand(tmp_path / "again", "trt", more={"model.plan": b"plan 1"}), models)
    assert again.version == 4  # the newest has other bytes, and the newest is what is served


def test_versions_are_numbers_and_not_text(tmp_path, models):
    artefact = made_by_hand(tmp_path / "a", "trt")
    serve(artefact, models)
    folder = models / "small-fp32-trt"
    (folder / "1").rename(folder / "9")
    (folder / "0012").mkdir()  # Triton ignores what begins with 0
    (folder / "configs").mkdir()
    assert serve(made_by_hand(tmp_path / "b", "trt", more={"model.plan": b"b"}), models).version == 10
    assert serve(made_by_hand(tmp_path / "c", "trt", more={"model.plan": b"c"}), models).version == 11


def test_exports_at_once_take_a_version_each(tmp_path, models, monkeypatch):
    artefacts = [made_by_hand(tmp_path / f"a{i}", "trt", more={"model.plan": b"%d" % i}) for i in range(6)]
    copy = repository_module.shutil.copyfile
    monkeypatch.setattr(repository_module.shutil, "copyfile", lambda *paths: (time.sleep(0.02), copy(*paths)))
    with ThreadPoolExecutor(len(artefacts)) as pool:
        placed = list(pool.map(lambda artefact: serve(artefact, models), artefacts))
    assert sorted(one.version for one in placed) == [1, 2, 3, 4, 5, 6]
    for i, one in enumerate(placed):
        assert (one.folder / "model.plan").read_bytes() == b"%d" % i


def test_a_half_copied_version_by_others_is_not_taken_for_the_same(tmp_path, models):
    artefact = made_by_hand(tmp_path / "a", "openvino")
    (serve(artefact, models).folder / "model.bin").unlink()
    assert serve(artefact, models).version == 2


# --- the configuration of a model that is there -----------------------------------------------------------------------


def test_a_configuration_that_nobody_edited_is_brought_up_to_date(tmp_path, models):
    serve(made_by_hand(tmp_path / "a"), models)
    placed = serve(made_by_hand(tmp_path / "b", batch={"min": 1, "opt": 3, "max": 4}), models)
    assert not placed.is_new
    config = parsed(models / "small-fp32-onnx/config.pbtxt")
    assert list(config.dynamic_batching.preferred_batch_size) == [3, 4]


def test_a_configuration_that_somebody_edited_is_kept(tmp_path, models, capsys):
    serve(made_by_hand(tmp_path / "a", "trt"), models)
    path = models / "small-fp32-trt/config.pbtxt"
    edited = path.read_text().replace("count: 1", "count: 4")
    assert edited != path.read_text()
    path.write_text(edited)
    capsys.readouterr()
    assert serve(made_by_hand(tmp_path / "b", "trt", more={"model.plan": b"b"}), models).version == 2
    assert path.read_text() == edited
    assert f"{path} was edited and is kept" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"batch": {"min": 1, "opt": 2, "max": 8}}, "max_batch_size 4 there, 8 here"),
        ({"inputs": [{"name": "input", "shape": [-1, 3, 6, 6], "dtype": "float32", "layout": None}]},
         "input [('input', 'TYPE_FP32', [1, 6, 6])] there, [('input', 'TYPE_FP32', [3, 6, 6])] here"),
        ({"outputs": [{"name": "logits", "shape": [-1, 3], "dtype": "float16", "layout": None}]},
         "output [('logits', 'TYPE_FP32', [3])] there, [('logits', 'TYPE_FP16', [3])] here"),
        ({"labels": ["a", "b", "x"]}, "labels a b c there, a b x here"),
        ({"labels": None}, "labels a b c there, None here"),
    ],
)  # fmt: skip
def test_another_interface_is_refused_and_everything_stays(tmp_path, models, changes, words):
    serve(made_by_hand(tmp_path / "a", "trt", labels=["a", "b", "c"]), models)
    before = {name: (models / name).read_bytes() for name in tree(models)}
    other = made_by_hand(tmp_path / "b", "trt", more={"model.plan": b"b"}, **{"labels": ["a", "b", "c"], **changes})
    with pytest.raises(InputError, match="serves another interface") as caught:
        serve(other, models)
    assert words in str(caught.value)
    assert f"export-model {other.folder} --triton-repository {models} --name OTHER" in str(caught.value)
    assert {name: (models / name).read_bytes() for name in tree(models)} == before
    assert serve(other, models, name="other").model == "other-fp32-trt"  # what the message says to type


def test_another_backend_under_the_same_name_is_refused(tmp_path, models):
    serve(made_by_hand(tmp_path / "a"), models)
    path = models / "small-fp32-onnx/config.pbtxt"
    path.write_text(path.read_text().replace('"onnxruntime"', '"python"'))
    with pytest.raises(InputError, match="backend python there, onnxruntime here"):
        serve(made_by_hand(tmp_path / "b"), models)


def test_a_configuration_that_is_none_is_refused_by_line_and_field(tmp_path, models):
    serve(made_by_hand(tmp_path / "a"), models)
    path = models / "small-fp32-onnx/config.pbtxt"
    path.write_text(path.read_text().replace("max_batch_size", "max_batchsize"))
    with pytest.raises(InputError, match=r"config\.pbtxt does not fit Triton's schema \(8:1.*max_batchsize"):
        serve(made_by_hand(tmp_path / "b"), models)


def test_a_model_without_a_configuration_is_not_ours(tmp_path, models):
    (models / "small-fp32-onnx" / "1").mkdir(parents=True)
    with pytest.raises(InputError, match=r"has no config\.pbtxt; move it away, or name another model: export-model"):
        serve(made_by_hand(tmp_path / "a"), models)


def test_an_empty_folder_is_in_nobodys_way(tmp_path, models):
    (models / "small-fp32-onnx").mkdir(parents=True)
    assert serve(made_by_hand(tmp_path / "a"), models).version == 1
    assert loadable(models) == {"small-fp32-onnx": 1}


def test_a_label_of_two_lines_is_refused(tmp_path, models):
    with pytest.raises(InputError, match=r"the label 'a\\nb' has several"):
        serve(made_by_hand(tmp_path / "a", labels=["a\nb", "c", "d"]), models)
    assert not models.exists()


# --- places -----------------------------------------------------------------------------------------------------------


def test_an_artefact_is_no_repository(tmp_path):
    artefact = made_by_hand(tmp_path / "a")
    with pytest.raises(InputError, match="is an artefact; name another folder"):
        serve(artefact, artefact.folder)


def test_a_file_in_the_way(tmp_path):
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "models"):
        with pytest.raises(NotADirectoryError) as caught:
            serve(made_by_hand(tmp_path / f"a{place.name}"), place)
        assert caught.value.filename == str(tmp_path / "file")


def test_a_place_that_may_not_be_written(tmp_path, models, monkeypatch):
    monkeypatch.setattr(serve_module.os, "access", lambda path, mode: False)
    with pytest.raises(PermissionError) as caught:
        serve(made_by_hand(tmp_path / "a"), models)
    assert caught.value.filename == str(tmp_path)


def test_the_repository_may_be_a_mount_point(tmp_path, models, monkeypatch):
    """Then nothing beside it can be renamed into it: a new model is put together within."""
    seen = []
    rename = repository_module.atomic_folder
    monkeypatch.setattr(
        repository_module, "atomic_folder", lambda path, beside: seen.append(beside) or rename(path, beside=beside)
    )
    real = repository_module.os.access
    monkeypatch.setattr(
        repository_module.os, "access", lambda path, mode: path != models.parent.resolve() and real(path, mode)
    )
    serve(made_by_hand(tmp_path / "a"), models)
    assert seen == [models / "small-fp32-onnx"]
    assert loadable(models) == {"small-fp32-onnx": 1}


# --- killed -----------------------------------------------------------------------------------------------------------

KILLED = """
import os, shutil, signal, sys
from pathlib import Path
from edgeline.artefact import open_artefact
from edgeline_export.triton import repository
from edgeline_export.triton.serve import serve
def half(source, target):
    Path(target).write_bytes(Path(source).read_bytes()[:2])
    os.kill(os.getpid(), signal.SIGKILL)
repository.shutil.copyfile = half
serve(open_artefact(sys.argv[1]), Path(sys.argv[2]))
"""


@pytest.mark.parametrize("before", [0, 1])
def test_a_killed_export_leaves_nothing_that_triton_would_load(tmp_path, models, before):
    if before:
        serve(made_by_hand(tmp_path / "a", "trt"), models)
    artefact = made_by_hand(tmp_path / "b", "trt", more={"model.plan": b"another"})
    ended = subprocess.run([sys.executable, "-c", KILLED, artefact.folder, models], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert loadable(models) == ({"small-fp32-trt": 1} if before else {})
    left = [path for path in models.parent.rglob("*.tmp") if path.is_dir()]
    assert len(left) == 1
    assert left[0].parent == (models / "small-fp32-trt" if before else models.parent)
    assert serve(artefact, models).version == before + 1
    assert loadable(models) == {"small-fp32-trt": before + 1}
    assert not left[0].exists()


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
@pytest.mark.parametrize("before", [0, 1])
def test_a_failed_write_leaves_nothing(tmp_path, models, monkeypatch, before, error):
    if before:
        serve(made_by_hand(tmp_path / "a", "openvino"), models)
    names = tree(models) if before else []

    def fail(source, target):
        target.write_bytes(b"half")
        raise error

    monkeypatch.setattr(repository_module.shutil, "copyfile", fail)
    with pytest.raises(error):
        serve(made_by_hand(tmp_path / "b", "openvino", more={"model.xml": b"<x/>", "model.bin": b""}), models)
    assert tree(models) == names
    assert os.listdir(models.parent) == ["models"]
