"""TensorRT-RTX's cache of compiled kernels between sessions, on the double: written, used again, never in the way."""

import dataclasses

import pytest

from edgeline.backends.tensorrt import TensorRtSession
from edgeline.tensorrt import runtime_cache
from tests.doubles import Faults, gpu_double
from tests.doubles.artefacts import images, write_artefact
from tests.doubles.install import GPU


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGELINE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / runtime_cache.FOLDER


@pytest.fixture
def artefact(root, tmp_path):
    with gpu_double("rtx"):
        return write_artefact(tmp_path / "small", "trt-rtx")


def compiled(artefact, *sizes, **keywords):
    """Run batches of these sizes in a session of its own; return the sizes that kernels were compiled for."""
    with gpu_double("rtx", **keywords) as world:
        with TensorRtSession(artefact) as session:
            for size in sizes:
                assert session.infer(images(size)).shape == (size, 3)
        return world.compiled


def files(root):
    return sorted(path for path in root.iterdir() if path.suffix == ".bin")


def test_a_second_session_compiles_only_what_is_new(artefact, root, capsys):
    assert compiled(artefact, 1, 2) == [1, 2]
    (path,) = files(root)
    first = path.read_bytes()
    assert compiled(artefact, 1, 2) == []
    assert path.read_bytes() == first
    assert compiled(artefact, 1, 3) == [3]
    assert path.read_bytes() != first
    assert compiled(artefact, 1, 2, 3) == []
    assert capsys.readouterr().err == ""


def test_what_has_not_changed_is_not_written_again(artefact, root, monkeypatch):
    compiled(artefact, 1)
    monkeypatch.setattr(runtime_cache, "write_checked", lambda *_: pytest.fail("it was written again"))
    assert compiled(artefact, 1) == []


@pytest.mark.parametrize("other", [{"driver": "13.1"}, {"name": "NVIDIA Other"}])
def test_another_driver_or_gpu_has_a_cache_of_its_own(other, artefact, root):
    compiled(artefact, 1)
    assert compiled(artefact, 1, gpu=dataclasses.replace(GPU, **other)) == [1]
    assert len(files(root)) == 2


def test_another_plan_has_a_cache_of_its_own(artefact, root, tmp_path):
    compiled(artefact, 1)
    with gpu_double("rtx"):
        other = write_artefact(tmp_path / "other", "trt-rtx", fixed=1)
    assert compiled(other, 1) == [1]
    assert len(files(root)) == 2


@pytest.mark.parametrize("damage", [b"", b"nonsense", None])
def test_a_damaged_file_is_ignored_with_a_note_and_written_again(damage, artefact, root, capsys):
    compiled(artefact, 1)
    (path,) = files(root)
    content = path.read_bytes()
    path.write_bytes(content[:-1] if damage is None else damage)
    assert compiled(artefact, 1) == [1]
    assert f"{path} are damaged; they are ignored and written again" in capsys.readouterr().err
    assert path.read_bytes() == content
    assert compiled(artefact, 1) == []


def test_a_file_that_tensorrt_rtx_does_not_take_is_written_again(artefact, root, capsys):
    compiled(artefact, 1)
    assert compiled(artefact, 2, faults=Faults(runtime_cache="deserialise")) == [2]
    assert "does not take the kernels cached in" in capsys.readouterr().err
    assert compiled(artefact, 1, 2) == [1]


@pytest.mark.parametrize(("fault", "words"), [("create", "no memory for it"), ("set", "no reason given")])
def test_without_a_runtime_cache_it_runs_and_says_so(fault, words, artefact, root, capsys):
    assert compiled(artefact, 1, 1, faults=Faults(runtime_cache=fault)) == [1]
    assert f"{words}); every session compiles its kernels again" in capsys.readouterr().err
    assert files(root) == []


def test_a_cache_folder_that_cannot_be_used_is_noted(artefact, root, capsys):
    root.mkdir(mode=0o700, parents=True)
    root.chmod(0o777)  # others may write there
    assert compiled(artefact, 1) == [1]
    assert "the compiled kernels are not kept for the next session: the cache folder" in capsys.readouterr().err


def test_a_full_disk_is_noted(artefact, root, capsys, monkeypatch):
    def full(_path, _content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(runtime_cache, "write_checked", full)
    assert compiled(artefact, 1) == [1]
    assert "not kept for the next session" in (err := capsys.readouterr().err)
    assert "No space left on device" in err


def test_a_file_that_cannot_be_read_is_noted(artefact, root, capsys, monkeypatch):
    def broken(_path):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(runtime_cache, "read_checked", broken)
    assert compiled(artefact, 1) == [1]
    assert "the cached kernels are not read" in (err := capsys.readouterr().err)
    assert "Input/output error" in err


@pytest.mark.parametrize("flavour", ["trt10", "trt11"])
def test_tensorrt_has_no_such_cache(flavour, root, tmp_path):
    with gpu_double(flavour):
        artefact = write_artefact(tmp_path / flavour, "trt")
        with TensorRtSession(artefact) as session:
            session.infer(images(1))
    assert not root.exists()
