import json

import pytest

from edgeline.artefact import open_artefact
from edgeline.errors import ArtefactError
from edgeline.manifest import manifest_from_file


def test_it_opens_and_its_manifest_round_trips(exported):
    artefact = open_artefact(exported)
    record = json.loads((exported / "manifest.json").read_text())
    assert json.loads(artefact.manifest.to_json()) == record
    assert artefact.total_bytes == sum(path.stat().st_size for path in exported.iterdir())


def test_a_changed_byte_is_found(artefact):
    graph = artefact / "model.onnx"
    content = bytearray(graph.read_bytes())
    content[len(content) // 2] ^= 1
    graph.write_bytes(content)
    with pytest.raises(ArtefactError, match=r"model\.onnx is not the file that was exported: sha256 \w{12}, expected"):
        open_artefact(artefact)


def test_a_truncated_file_is_found_by_its_size(artefact):
    graph = artefact / "model.onnx"
    graph.write_bytes(graph.read_bytes()[:-1])
    with pytest.raises(ArtefactError, match=r"has \d+ bytes, its manifest says \d+"):
        open_artefact(artefact)


def test_a_file_that_is_not_listed_is_refused(artefact):
    (artefact / "weights.bin").touch()
    with pytest.raises(ArtefactError, match=r"holds 'weights\.bin', which its manifest does not list"):
        open_artefact(artefact)


def test_a_missing_file_is_found(artefact):
    (artefact / "selftest.npz").unlink()
    with pytest.raises(ArtefactError, match=r"selftest\.npz is missing"):
        open_artefact(artefact)


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "a/../../outside"])
def test_a_path_that_leaves_the_folder_is_refused(artefact, name):
    (artefact.parent / "outside").write_text("x")
    path = artefact / "manifest.json"
    record = json.loads(path.read_text())
    record["files"][name] = {"sha256": "0" * 64, "bytes": 1}
    path.write_text(json.dumps(record))
    with pytest.raises(ArtefactError, match="leaves the artefact's folder; not loaded"):
        open_artefact(artefact)


def test_a_link_that_leaves_the_folder_is_refused(artefact):
    outside = artefact.parent / "elsewhere.onnx"
    (artefact / "model.onnx").rename(outside)
    (artefact / "model.onnx").symlink_to(outside)
    with pytest.raises(ArtefactError, match="leaves the artefact's folder"):
        open_artefact(artefact)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schema_version": 99}, "schema_version 99, this edgeline reads 1"),
        ({"inputs": [{"name": "x", "shape": [1], "dtype": "float8"}]}, "dtype 'float8' of 'x'"),
        ({"batch": {"min": 1}}, "lacks the key 'opt'"),
        ({"inputs": 3}, "bad value"),
        ({"inputs": []}, "0 inputs and 1 outputs, expected one of each"),
        ({"files": []}, "bad value"),
        ({"files": {"a": {"sha256": "", "bytes": float("inf")}}}, "bad value"),
        ({"files": {"a\0b": {"sha256": "", "bytes": 1}}}, "a file name with a NUL"),
        ({"verification": {}}, "lacks the key 'engine'"),
        ({"labels": ["a"]}, "1 labels for 10 outputs"),
        ({"batch": {"min": 1, "opt": 8, "max": 0}}, "expected 1 <= min <= opt <= max"),
        ({"preprocessing": {"resize": None, "scale": 1, "mean": [0], "std": [0]}}, "expected numbers above 0"),
        *[
            ({"preprocessing": {"resize": None, "scale": 1, "mean": [0], "std": [1], "pad": pad}}, words)
            for pad, words in (
                ([2, -1], r"pad \[2, -1\], expected two whole numbers of at least 0, or null"),
                ([2.0, 2], r"pad \[2.0, 2\], expected two whole"),
                ([True, 2], "expected two whole"),
                ([2], "expected two whole"),
                (2, "expected two whole"),
                ("22", "expected two whole"),
                ([2, 14], r"pad \[2, 14\] leaves no image in an input of \[-1, 1, 28, 28\]"),
            )
        ],
    ],
)
def test_a_bad_manifest_is_named(artefact, change, words):
    path = artefact / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ArtefactError, match=words):
        manifest_from_file(path)


@pytest.mark.parametrize(
    ("text", "words"), [("{", "is damaged"), ("[]", "is not a manifest"), ("{}", "schema_version None")]
)
def test_what_is_no_manifest_is_refused(artefact, text, words):
    (artefact / "manifest.json").write_text(text)
    with pytest.raises(ArtefactError, match=words):
        open_artefact(artefact)


def test_places_that_are_no_artefact(tmp_path):
    with pytest.raises(ArtefactError, match="there is no artefact at"):
        open_artefact(tmp_path / "nothing")
    with pytest.raises(ArtefactError, match=r"is not an artefact: it has no manifest\.json"):
        open_artefact(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(ArtefactError, match="is a file"):
        open_artefact(tmp_path / "file")


def test_a_manifest_without_pad_is_one_that_pads_nothing(artefact):
    """As they were written before images were padded."""
    path = artefact / "manifest.json"
    record = json.loads(path.read_text())
    assert record["preprocessing"].pop("pad") is None
    path.write_text(json.dumps(record))
    assert manifest_from_file(path).preprocessing.pad is None
    record["preprocessing"]["pad"] = [2, 3]
    path.write_text(json.dumps(record))
    assert manifest_from_file(path).preprocessing.pad == (2, 3)
