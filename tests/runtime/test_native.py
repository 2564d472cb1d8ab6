"""The session on a C library: LeNet's, compiled for this machine, and the functions behind it through ctypes."""

import ctypes
import json
import os
import shutil
import signal
import subprocess
import threading
import time

import numpy as np
import pytest

import edgeline
import edgeline.cli
from edgeline.errors import ArtefactError, EdgelineError, InputError, MissingCapabilityError, ShapeError
from tests.conftest import one_line
from tests.sessions import check_memory

MAIN = edgeline.cli.main
BATCH = np.random.default_rng(0).standard_normal((5, 1, 28, 28)).astype(np.float32)


@pytest.fixture(scope="module")
def session(exported_c):
    with edgeline.load(exported_c) as opened:
        yield opened


@pytest.fixture(scope="module")
def reference(exported_c):
    """The same graph on ONNX Runtime."""
    with edgeline.load(exported_c, engine="onnxruntime") as opened:
        yield opened


@pytest.fixture
def copy(exported_c, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(exported_c, tmp_path / exported_c.name)


# --- the session ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 5, 64, 200])
def test_it_computes_what_onnxruntime_computes(session, reference, size):
    batch = np.resize(BATCH, (size, 1, 28, 28))
    logits = session.infer(batch)
    assert (session.engine, session.device) == ("native", "cpu")
    assert logits.shape == (size, 10)
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, reference.infer(batch), rtol=0, atol=1e-4)


def test_each_instruction_set_of_the_library_computes_the_same(exported_c, reference):
    from edgeline.backends.native import NativeSession

    with edgeline.load(exported_c) as best:
        artefact, chosen = best.artefact, best.isa
    variants = [variant["isa"] for variant in artefact.manifest.compilation["variants"]]
    assert chosen in variants
    suffixes = {"sse2": "_base", "avx2": "_v3", "avx512": "_v4", "avx512-vnni": "_vnni"}
    for isa in variants[: variants.index(chosen) + 1] if len(variants) > 1 else ():
        with NativeSession(artefact, variant=suffixes[isa]) as session:
            assert session.isa == isa
            np.testing.assert_allclose(session.infer(BATCH), reference.infer(BATCH), rtol=0, atol=1e-4)


def test_an_out_that_overlaps_the_batch(session):
    memory = np.zeros(5 * 784, np.float32)
    batch, out = memory.reshape(5, 1, 28, 28), memory[:50].reshape(5, 10)
    batch[...] = BATCH
    np.testing.assert_array_equal(session.infer(batch, out=out), session.infer(BATCH))


def test_an_out_that_cannot_be_written(session):
    out = np.zeros((5, 10), np.float32)
    out.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        session.infer(BATCH, out=out)
    assert not out.any()


def test_a_batch_that_does_not_fit_is_refused_also_behind_one_that_did(session):
    session.infer(BATCH)
    for wrong in (BATCH.astype(np.float64), BATCH[:, :, :27], BATCH[:0], BATCH.astype(">f4"), BATCH.tolist()):
        with pytest.raises(ShapeError):
            session.infer(wrong)
    session.infer(BATCH)


@pytest.mark.parametrize("shared", [1, 2])
def test_memory_is_the_callers(exported_c, shared):
    with edgeline.load(exported_c, threads=shared) as session:
        check_memory(session)
        check_memory(session, 1)


@pytest.mark.parametrize("threads", [2, 3])
@pytest.mark.parametrize("size", [1, 5, 6, 8, 9, 64, 200])
def test_threads_of_the_session_share_samples(exported_c, session, threads, size):
    batch = np.resize(BATCH, (size, 1, 28, 28)) * np.linspace(-2, 2, size, dtype=np.float32)[:, None, None, None]
    with edgeline.load(exported_c, threads=threads) as several:
        first = several.infer(batch)
        np.testing.assert_allclose(first, session.infer(batch), rtol=0, atol=1e-5)
        for _ in range(10):
            np.testing.assert_array_equal(several.infer(batch), first)


@pytest.mark.parametrize("shared", [1, 2])
def test_threads_run_at_once_each_in_its_arena(exported_c, shared):
    batches = [np.resize(BATCH, (size, 1, 28, 28)) * scale for size, scale in ((1, 1.0), (9, 2.0), (17, -1.0))]
    with edgeline.load(exported_c, threads=shared) as session:
        expected = [session.infer(batch) for batch in batches]
        wrong = []

        def work(index):
            for _ in range(200):
                if not np.array_equal(session.infer(batches[index]), expected[index]):
                    wrong.append(index)

        threads = [threading.Thread(target=work, args=(i % 3,)) for i in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


@pytest.mark.parametrize("shared", [1, 2])
def test_closing_while_other_threads_run_ends_their_next_call(exported_c, shared):
    session = edgeline.load(exported_c, threads=shared)
    batch = np.resize(BATCH, (9, 1, 28, 28))
    expected, outcomes, started = session.infer(batch), [], threading.Barrier(3)

    def work():
        started.wait()
        try:
            while True:
                np.testing.assert_array_equal(session.infer(batch), expected)
        except InputError as error:
            outcomes.append(str(error))
        except AssertionError:
            outcomes.append("wrong numbers")

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    started.wait()
    session.close()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 2
    assert all("is closed" in outcome or "was closed by another thread" in outcome for outcome in outcomes)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("shared", [1, 2])
def test_a_session_works_on_both_sides_of_a_fork(exported_c, shared):
    """The child has none of the pool's threads, and does not wait for them."""
    batch = np.resize(BATCH, (64, 1, 28, 28))
    with edgeline.load(exported_c, threads=shared) as session:
        expected = session.infer(batch)
        time.sleep(0.05)  # the pool's threads sleep again
        child = os.fork()
        if child == 0:
            signal.alarm(20)
            os._exit(0 if np.array_equal(session.infer(batch), expected) else 1)
        for _ in range(50):
            np.testing.assert_array_equal(session.infer(batch), expected)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


STAND_IN = """
#include <stddef.h>
size_t lenet_arena_bytes(size_t n) { return n; }
const char *lenet_isa(void) { return "c99"; }
int lenet_infer(const float *input, float *output, size_t n, void *arena, size_t arena_bytes)
{
    (void)input, (void)arena, (void)arena_bytes;
    for (size_t i = 0; i < 10 * n; i++) output[i] = 42.0f;
    return CODE;
}
"""


def put_stand_in(folder, edit_manifest, code=0):
    """Put another library in the place of an artefact's."""
    source, made = folder.parent / "stand_in.c", folder.parent / "stand_in.so"
    source.write_text(STAND_IN)
    subprocess.run(["cc", "-shared", "-fPIC", f"-DCODE={code}", source, "-o", made], check=True)
    (folder / "liblenet.so").unlink()
    made.rename(folder / "liblenet.so")
    edit_manifest(folder)


def test_an_artefact_that_was_exported_again_in_the_same_place_is_the_new_one(copy, edit_manifest):
    """The dynamic loader knows a library by its path: the old one must not come back."""
    with edgeline.load(copy) as old:
        before = old.infer(BATCH)
        put_stand_in(copy, edit_manifest)
        with edgeline.load(copy) as new:
            assert (new.infer(BATCH) == 42).all()
        np.testing.assert_array_equal(old.infer(BATCH), before)  # a session keeps what it has opened
        with edgeline.load(copy) as again:
            assert (again.infer(BATCH) == 42).all()


def test_a_code_of_the_library_is_an_error(copy, edit_manifest):
    put_stand_in(copy, edit_manifest, code=4)
    with edgeline.load(copy) as session, pytest.raises(EdgelineError, match=r"returned 4 \(EDGELINE_EARENA\)"):
        session.infer(BATCH)


# --- where it cannot run ----------------------------------------------------------------------------------------------


def test_a_gpu_is_not_what_it_runs_on(exported_c):
    with pytest.raises(MissingCapabilityError, match="C library for the CPU: device='cpu' or 'auto' runs it"):
        edgeline.load(exported_c, device="cuda")


def test_a_library_for_another_architecture(copy, edit_manifest):
    edit_manifest(copy, target={"name": "generic", "architecture": "riscv64"})
    with pytest.raises(MissingCapabilityError, match=r"for riscv64 CPUs, this is \w+: copy it to a device of"):
        edgeline.load(copy)
    with edgeline.load(copy, engine="onnxruntime") as session:
        assert session.infer(BATCH).shape == (5, 10)


def test_a_damaged_library_is_not_loaded(copy):
    library = copy / "liblenet.so"
    content = bytearray(library.read_bytes())
    content[len(content) // 2] ^= 1
    library.write_bytes(content)
    with pytest.raises(ArtefactError, match=r"liblenet.so is not the file that was exported: sha256"):
        edgeline.load(copy)


def test_what_the_system_does_not_load(copy, edit_manifest):
    (copy / "liblenet.so").write_bytes(b"\x7fELF, but no more of it")
    edit_manifest(copy)
    with pytest.raises(MissingCapabilityError, match=r"liblenet.so cannot be loaded here \(.+\): export it again"):
        edgeline.load(copy)


def test_a_library_without_the_functions(copy, edit_manifest):
    record = json.loads((copy / "manifest.json").read_text())
    (copy / "liblenet.so").rename(copy / "libother.so")
    record["files"]["libother.so"] = record["files"].pop("liblenet.so")
    edit_manifest(copy, files=record["files"], compilation={**record["compilation"], "prefix": "other"})
    with pytest.raises(ArtefactError, match=r"libother.so is not the library that its manifest says \(.*other_infer"):
        edgeline.load(copy)


@pytest.mark.parametrize("prefix", ["../lenet", "", "le net", None])
def test_a_manifest_that_names_no_function(copy, edit_manifest, prefix):
    record = json.loads((copy / "manifest.json").read_text())
    edit_manifest(copy, compilation={**record["compilation"], "prefix": prefix} if prefix is not None else None)
    with pytest.raises((ArtefactError, MissingCapabilityError), match="export it again"):
        edgeline.load(copy)


def test_sources_without_a_library(copy, edit_manifest, command):
    record = json.loads((copy / "manifest.json").read_text())
    (copy / "liblenet.so").unlink()
    del record["files"]["liblenet.so"]
    edit_manifest(copy, files=record["files"], build="on-device")
    with pytest.raises(MissingCapabilityError, match="holds C sources and no library"):
        edgeline.load(copy)
    code, out, _ = command(MAIN, "info", copy)
    assert code == 0
    assert "loads     no: lenet-mnist-10k.fp32.c holds C sources and no library" in out
    code, _, err = command(MAIN, "selftest", copy)
    assert code == 3
    assert "holds C sources and no library" in one_line(err)


# --- the command ------------------------------------------------------------------------------------------------------


def test_info_tells_target_instruction_sets_and_arena(exported_c, session, command):
    code, out, _ = command(MAIN, "info", exported_c)
    assert code == 0
    assert f"loads     yes, and chooses {session.isa}\n" in out
    assert f"arena     {session.arena_bytes} bytes for one sample a call\n" in out
    code, out, _ = command(MAIN, "info", exported_c, "--json")
    library = json.loads(out)["library"]
    assert library["isa"] == session.isa
    assert library["isa"] in library["variants"]
    assert library["obstacle"] is None


def test_selftest_and_run(exported_c, command):
    code, out, _ = command(MAIN, "selftest", exported_c)
    assert code == 0
    assert out.startswith("passed: 16 inputs on native (cpu), ")
    code, out, _ = command(MAIN, "run", exported_c, "examples/seven.pgm", "--json")
    assert code == 0
    assert len(json.loads(out)[0]["top"]) == 3


def test_there_is_nothing_to_build(exported_c, command):
    code, _, err = command(MAIN, "build", exported_c)
    assert code == 2
    assert "its format is c" in one_line(err)


# --- the functions, as C calls them -----------------------------------------------------------------------------------


class Functions:
    """The library's functions with ctypes, called wrongly on purpose."""

    def __init__(self, folder):
        library = ctypes.CDLL(str(folder / "liblenet.so"))
        pointer, size = ctypes.c_void_p, ctypes.c_size_t
        for name in ("lenet_infer", "lenet_infer_u8"):
            function = library[name]
            function.argtypes, function.restype = (pointer, pointer, size, pointer, size), ctypes.c_int
            setattr(self, name, function)
        for name in ("lenet_arena_bytes", "lenet_u8_arena_bytes"):
            function = library[name]
            function.argtypes, function.restype = (size,), size
            setattr(self, name, function)
        self.memory = np.zeros(1 << 20, np.uint8)
        self.arena = self.memory.ctypes.data + -self.memory.ctypes.data % 64
        self.input = np.ascontiguousarray(BATCH)
        self.pixels = np.random.default_rng(3).integers(0, 256, (5, 28, 28)).astype(np.uint8)
        self.output = np.full((5, 10), 7, np.float32)


@pytest.fixture(scope="module")
def functions(exported_c):
    return Functions(exported_c)


@pytest.mark.parametrize("kind", ["", "_u8"])
@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"given": None}, 1), ({"made": None}, 1), ({"arena": None}, 1),
        ({"n": 0}, 2),
        ({"shift": 1}, 3), ({"shift": 4}, 3), ({"shift": 32}, 3),
        ({"bytes": 0}, 4), ({"bytes": -1}, 4),
        ({}, 0),
    ],
)  # fmt: skip
def test_error_codes(functions, kind, wrong, code):
    needed = (functions.lenet_u8_arena_bytes if kind else functions.lenet_arena_bytes)(5)
    given = functions.pixels if kind else functions.input
    size = wrong.get("bytes", needed)
    functions.output[...] = 7
    found = getattr(functions, f"lenet_infer{kind}")(
        wrong.get("given", given.ctypes.data),
        wrong.get("made", functions.output.ctypes.data),
        wrong.get("n", 5),
        wrong.get("arena", functions.arena + wrong.get("shift", 0)),
        size if size >= 0 else needed + size,
    )
    assert found == code
    assert (functions.output == 7).all() == (code != 0)  # nothing is computed with a wrong argument


def test_pixels_give_the_bits_that_preprocessed_input_gives(functions, session):
    out = np.empty((5, 10), np.float32)
    code = functions.lenet_infer_u8(
        functions.pixels.ctypes.data, out.ctypes.data, 5, functions.arena, functions.lenet_u8_arena_bytes(5)
    )
    assert code == 0
    np.testing.assert_array_equal(out, session.infer(session.preprocess(functions.pixels)))
