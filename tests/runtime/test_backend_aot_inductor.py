"""The session on AOTInductor's packages: of a small network in two batch sizes, against eager torch."""

import json
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

import edgeline
from edgeline.backends import aot_inductor
from edgeline.backends.aot_inductor import instructions_here
from edgeline.errors import ArtefactError, MissingCapabilityError
from tests.sessions import check_calls_at_once, check_closing, check_memory

pytestmark = [
    pytest.mark.slow,  # the compiler takes 20 s
    pytest.mark.skipif(find_spec("torchao") is None, reason="torchao is not installed: edgeline[peers]"),
    pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler g++"),
]
BATCH = np.random.default_rng(0).standard_normal((21, 1, 28, 28)).astype(np.float32)


class Small(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.linear = torch.nn.Linear(784, 10)

    def forward(self, images):
        return self.linear(images.flatten(1))


@pytest.fixture(scope="module")
def folder(exported, tmp_path_factory):
    """LeNet's artefact with packages of a network of its shapes in place of its own: one layer compiles in seconds."""
    from edgeline.files import sha256_of_file
    from edgeline_export.peers.aot_inductor import compile_package, workspace

    path = Path(shutil.copytree(exported, tmp_path_factory.mktemp("aot") / "lenet-mnist-10k.fp32.aot-inductor"))
    record = json.loads((path / "manifest.json").read_text())
    record.update(format="aot-inductor", target=aot_inductor.target_here())
    with workspace():
        made = {size: compile_package(Small().eval(), (size, 1, 28, 28), "int8") for size in (2, 8)}
    for size, content in made.items():
        file = path / aot_inductor.package_file(size)
        file.write_bytes(content)
        record["files"][file.name] = {"sha256": sha256_of_file(file), "bytes": file.stat().st_size}
    (path / "manifest.json").write_text(json.dumps(record))
    return path


@pytest.fixture
def copy(folder, tmp_path):
    return Path(shutil.copytree(folder, tmp_path / folder.name))


@pytest.fixture(scope="module")
def session(folder):
    with edgeline.load(folder) as opened:
        yield opened


def eager(batch):
    with torch.inference_mode():
        return Small()(torch.from_numpy(batch)).numpy()


@pytest.mark.parametrize("size", [1, 2, 3, 8, 13, 21])
def test_it_computes_what_torch_computes_in_sizes_that_were_compiled_and_others(session, size):
    logits = session.infer(BATCH[:size])
    assert (session.engine, session.device, logits.dtype) == ("aot-inductor", "cpu", np.float32)
    np.testing.assert_allclose(logits, eager(BATCH[:size]), rtol=1e-4, atol=1e-5)


def test_threads_are_those_of_the_process(folder):
    before = torch.get_num_threads()
    try:
        with edgeline.load(folder, threads=2) as session:
            assert torch.get_num_threads() == 2
            np.testing.assert_allclose(session.infer(BATCH), eager(BATCH), rtol=1e-4, atol=1e-5)
    finally:
        torch.set_num_threads(before)


def test_memory_is_the_callers(session):
    check_memory(session)


def test_four_threads_get_what_one_gets(session):
    check_calls_at_once(session)


def test_closing_removes_what_torch_unpacked(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    check_closing(edgeline.load(folder))
    assert not list(tmp_path.iterdir())


def test_no_gpu(folder):
    with pytest.raises(MissingCapabilityError, match="compiled for the CPU: device='cpu'"):
        edgeline.load(folder, device="cuda")


def test_without_torch_it_says_what_to_install(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingCapabilityError, match=r"torch is not installed .*pip install 'edgeline\[peers\]'"):
        edgeline.load(folder)


def test_another_architecture(copy, edit_manifest):
    edit_manifest(copy, target={"architecture": "riscv64", "instructions": []})
    with pytest.raises(MissingCapabilityError, match=r"compiled for riscv64 CPUs.*--engine onnxruntime"):
        edgeline.load(copy)


def test_instructions_that_this_processor_lacks(folder, monkeypatch, tmp_path):
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nflags\t\t: fpu sse2 ssse3 sse4_1 sse4_2 avx\n")
    monkeypatch.setattr(aot_inductor, "_CPUINFO", tmp_path / "cpuinfo")
    assert instructions_here() == {"sse2", "ssse3", "sse4_1", "sse4_2", "avx"}
    with pytest.raises(MissingCapabilityError, match=r"for a CPU with .*, which this one lacks: export it on this"):
        edgeline.load(folder)


def test_instructions_of_an_arm_processor(monkeypatch, tmp_path):
    (tmp_path / "cpuinfo").write_text("Features\t: fp asimd evtstrm aes asimddp sve i8mm bf16 cpuid\n")
    monkeypatch.setattr(aot_inductor, "_CPUINFO", tmp_path / "cpuinfo")
    assert instructions_here() == {"asimd", "aes", "asimddp", "sve", "i8mm", "bf16"}
    monkeypatch.setattr(aot_inductor, "_CPUINFO", tmp_path / "none")
    assert instructions_here() == frozenset()


@pytest.mark.parametrize("content", [b"", b"no package", None])
def test_a_damaged_package(copy, edit_manifest, content):
    file = copy / "model-batch8.pt2"
    file.write_bytes(file.read_bytes()[:5000] if content is None else content)
    edit_manifest(copy)
    with (
        edgeline.load(copy) as session,
        pytest.raises(ArtefactError, match=r"torch refuses .*model-batch8\.pt2: .*export it again") as caught,
    ):
        session.infer(np.zeros((8, *session.manifest.inputs[0].shape[1:]), np.float32))
    assert "\n" not in str(caught.value)


def test_a_package_is_loaded_when_its_size_is_first_used(copy):
    """Each holds all weights."""
    with edgeline.load(copy) as session:
        assert list(session._packages) == []
        session.infer(np.zeros((2, *session.manifest.inputs[0].shape[1:]), np.float32))
        assert list(session._packages) == [2]


def test_an_artefact_without_packages(copy):
    record = json.loads((copy / "manifest.json").read_text())
    for size in (2, 8):
        del record["files"][f"model-batch{size}.pt2"]
        (copy / f"model-batch{size}.pt2").unlink()
    (copy / "manifest.json").write_text(json.dumps(record))
    with pytest.raises(ArtefactError, match=r"has no model\.pt2"):
        edgeline.load(copy)
