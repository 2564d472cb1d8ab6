"""Shared fixtures: one small training run and one export serve the whole session."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import edgeline_export.cli
import edgeline_train.cli
from edgeline.files import sha256_of_file


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The cache of the tests: never the user's, and empty at the start."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGELINE_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def weights_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """LeNet after three epochs on the embedded digits: far from good, but it has learnt."""
    folder = tmp_path_factory.mktemp("weights")
    assert edgeline_train.cli.main(["lenet", "--epochs", "3", "--weights", str(folder), "--device", "cpu"]) == 0
    return folder


@pytest.fixture(scope="session")
def weights_file(weights_folder: Path) -> Path:
    return weights_folder / "lenet-mnist-10k.safetensors"


@pytest.fixture(scope="session")
def exported(weights_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """LeNet's artefact. Read-only: tests that change it take `artefact`."""
    out = tmp_path_factory.mktemp("artifacts")
    assert edgeline_export.cli.main(["lenet", "--weights", str(weights_folder), "--out", str(out)]) == 0
    return out / "lenet-mnist-10k.fp32.onnx"


@pytest.fixture(scope="session")
def exported_c(weights_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """LeNet as a C library for this machine. Read-only: tests that change it take a copy."""
    out = tmp_path_factory.mktemp("artifacts-c")
    argv = ["lenet", "--weights", str(weights_folder), "--format", "c", "--require-engine", "--out", str(out)]
    assert edgeline_export.cli.main(argv) == 0
    return out / "lenet-mnist-10k.fp32.c"


@pytest.fixture
def artefact(exported: Path, tmp_path: Path) -> Path:
    """A copy of LeNet's artefact that a test may damage."""
    return Path(shutil.copytree(exported, tmp_path / exported.name))


@pytest.fixture
def edit_manifest() -> Callable[..., None]:
    """Change keys of an artefact's manifest, and bring its hashes up to date."""

    def edit(folder: Path, **changes: Any) -> None:
        path = folder / "manifest.json"
        record = json.loads(path.read_text())
        record.update(changes)
        for name, entry in record["files"].items():
            if (folder / name).exists():
                entry.update(sha256=sha256_of_file(folder / name), bytes=(folder / name).stat().st_size)
        path.write_text(json.dumps(record))

    return edit


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run a command's main in this process: (exit code, stdout, stderr)."""

    def run(main: Callable[[list[str]], int], *argv: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([str(arg) for arg in argv])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def one_line(err: str) -> str:
    """The last line of stderr, after checking that there is no traceback."""
    assert "Traceback" not in err
    return err.strip().splitlines()[-1]
