"""What the tests of Triton repositories share: artefacts made by hand, and a reader that looks as Triton does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgeline.artefact import Artefact, open_artefact
from edgeline.files import sha256_of_file
from tests.doubles.artefacts import write_artefact

FILES = {
    "onnx": {},
    "trt": {"model.plan": b"a plan"},
    "openvino": {"model.xml": b"<net/>", "model.bin": b"\0\1\2"},
}


def made_by_hand(
    folder: Path, format_name: str = "onnx", *, fixed: int | None = None, more: dict[str, bytes] | None = None,
    **manifest: Any,
) -> Artefact:  # fmt: skip
    """An artefact `small`, float32 [N, 1, 6, 6] -> [N, 3], batch 1:2:4, with its format's files and any manifest."""
    write_artefact(folder, format_name, fixed=fixed, built=False)
    for name, content in (FILES[format_name] if more is None else more).items():
        (folder / name).write_bytes(content)
    record = json.loads((folder / "manifest.json").read_text())
    record |= {"build": "built", **manifest}
    names = [path.name for path in folder.iterdir() if path.name != "manifest.json"]
    record["files"] = {
        name: {"sha256": sha256_of_file(folder / name), "bytes": (folder / name).stat().st_size} for name in names
    }
    (folder / "manifest.json").write_text(json.dumps(record))
    return open_artefact(folder)


def parsed(path: Path) -> Any:
    """A config.pbtxt, read with the schema that Triton's client ships."""
    text_format = pytest.importorskip("google.protobuf.text_format")
    schema = pytest.importorskip("tritonclient.grpc.model_config_pb2")
    return text_format.Parse(path.read_text(), schema.ModelConfig())


def loadable(repository: Path) -> dict[str, int]:
    """What Triton would load, {model: newest version}: every folder is a model, every folder with a number a version.

    After ModelRepositoryManager::Poll and VersionsToLoad; a folder that is no model fails, as it fails Triton's start.
    """
    found = {}
    for folder in (entry for entry in repository.iterdir() if entry.is_dir()):
        config = parsed(folder / "config.pbtxt")
        assert config.name == folder.name
        versions = [int(entry.name) for entry in folder.iterdir() if entry.is_dir() and entry.name.isdigit()]
        newest = max(versions)
        assert (folder / str(newest) / config.default_model_filename).is_file()
        assert all((folder / output.label_filename).exists() for output in config.output)
        found[folder.name] = newest
    return found
