"""From sources to a shared library: what it exports, how it chooses, that it is the same bytes every time."""

import ctypes
import functools
import os
import platform
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeline.errors import MissingCapabilityError
from edgeline.manifest import Preprocessing
from edgeline.native_library import load_library
from edgeline.preprocessing import input_from_pixels
from edgeline_export.c.compiler import NoCompilerError, find_compiler
from edgeline_export.c.dispatch import dispatch_source
from edgeline_export.c.elf import code_bytes
from edgeline_export.c.targets import TARGETS, Target, Variant, native_target
from edgeline_export.c.toolchain import CompileError, build_library, machine_of
from tests.export.c.harness import compiler as installed
from tests.export.c.harness import onnxruntime_outputs
from tests.export.c.tiny import tiny_batch, tiny_graph, tiny_sources

GREY = Preprocessing(None, 1 / 255, (0.1307,), (0.3081,))
X86 = pytest.mark.skipif(platform.machine() != "x86_64", reason="needs an x86-64 CPU")


@functools.cache
def build(target, preprocessing=None, cc="cc", channels=1, hidden=0):
    """Compile the tiny network; return its program, its files and the library."""
    return compiled(tiny_graph(channels, hidden=hidden), target, preprocessing, cc)


def compiled(graph, target, preprocessing=None, cc="cc"):
    compiler = find_compiler(installed(cc))
    program, pixels, files = tiny_sources(graph, target, preprocessing)
    dispatch = dispatch_source(program, target, not isinstance(pixels, str))
    return program, files, build_library("tiny", files, dispatch, target, compiler, machine_of(compiler))


def placed(library, folder):
    folder.mkdir(exist_ok=True)
    path = folder / library.file
    path.write_bytes(library.content)
    return path


def infer(loaded, program, batch):
    out = np.empty((len(batch), 4), np.float32)
    memory = np.zeros(program.pixel_arena_bytes + 64, np.uint8)
    arena = memory.ctypes.data + -memory.ctypes.data % 64
    code = loaded.infer(batch.ctypes.data, out.ctypes.data, len(batch), arena, program.arena_bytes)
    return code, out


def suffixes(target):
    return [f"_{variant.suffix}" for variant in target.variants] if len(target.variants) > 1 else [""]


# --- the library ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cc", ["gcc", "clang"])
@pytest.mark.parametrize("hidden", [0, 3000], ids=["weights-as-text", "weights-in-a-file"])
def test_each_instruction_set_computes_what_onnxruntime_does(tmp_path, cc, hidden):
    graph, batch, target = tiny_graph(hidden=hidden), tiny_batch(), native_target()
    program, files, library = build(target, cc=cc, hidden=hidden)
    assert ("tiny.weights.bin" in files) == bool(hidden)
    path = placed(library, tmp_path)
    best = load_library(path, "tiny")
    isas = [variant.isa for variant in target.variants]
    for suffix, isa in zip(suffixes(target), isas[: isas.index(best.isa) + 1], strict=False):
        loaded = load_library(path, "tiny", suffix)
        assert loaded.isa == isa
        code, found = infer(loaded, program, batch)
        assert code == 0
        np.testing.assert_allclose(found, onnxruntime_outputs(graph, batch), rtol=0, atol=1e-5)


@X86
def test_weights_lie_in_a_library_once_however_many_instruction_sets_it_has():
    program, _, library = build(TARGETS["x86-64"], hidden=3000)
    weights = sum(parameter.values.nbytes for step in program.steps for parameter in step.parameters)
    assert weights > 1_000_000
    assert len(library.content) < weights + 300_000
    program, _, library = build(TARGETS["x86-64"], hidden=400)
    first = next(step for step in program.steps if len(step.parameters[0].values) > 1000).parameters[0].values
    assert library.content.count(first.tobytes()) == 1  # as C text, too


@pytest.mark.parametrize("name", ["generic", "native"])
def test_nothing_but_the_networks_own_names_is_exported(tmp_path, name):
    nm = shutil.which("nm")
    if nm is None:
        pytest.skip("nm is not installed: apt-get install binutils")
    target = native_target() if name == "native" else TARGETS[name]
    path = placed(build(target, GREY, hidden=3000)[2], tmp_path)
    shown = subprocess.run([nm, "-D", "--defined-only", path], capture_output=True, text=True, check=True).stdout
    names = {line.split()[-1] for line in shown.splitlines()}
    assert {"tiny_infer", "tiny_infer_u8", "tiny_arena_bytes", "tiny_u8_arena_bytes", "tiny_isa"} <= names
    assert all(name.startswith("tiny_") for name in names)


@pytest.mark.parametrize("cc", ["gcc", "clang"])
def test_the_same_sources_give_the_same_bytes_wherever_they_are_compiled(tmp_path, monkeypatch, cc):
    first = build(native_target(), cc=cc, hidden=3000)[2].content
    other = tmp_path / "another place with a long name"
    other.mkdir()
    monkeypatch.setenv("TMPDIR", str(other))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.chdir(other)
    again = compiled(tiny_graph(hidden=3000), native_target(), cc=cc)[2].content
    assert first == again
    assert str(tmp_path).encode() not in again


@X86
def test_a_cpu_that_lacks_everything_gets_a_code_and_not_a_crash(tmp_path):
    """fma4 and xop: AMD's of 2011, which no CPU with AVX-512 or of another maker has."""
    target = Target(
        "old", "a test", (Variant("one", "sse2", (), ("fma4",)), Variant("two", "avx", (), ("xop", "fma4")))
    )
    if "fma4" in Path("/proc/cpuinfo").read_text():
        pytest.skip("this CPU has FMA4")
    path = placed(build(target, GREY)[2], tmp_path)
    assert load_library(path, "tiny") is None
    library = ctypes.CDLL(str(path))
    for function in ("tiny_infer", "tiny_infer_u8"):
        assert library[function](None, None, 0, None, 0) == 5
    library.tiny_arena_bytes.argtypes, library.tiny_arena_bytes.restype = (ctypes.c_size_t,), ctypes.c_size_t
    assert library.tiny_arena_bytes(1) > 0


@X86
def test_the_last_instruction_set_that_the_cpu_has_is_taken(tmp_path):
    """By features that every x86-64 CPU has, and one that this one lacks."""
    variants = (Variant("a", "c99", ("-DEDGELINE_SCALAR",)), Variant("b", "sse2", (), ("sse2",)),
                Variant("c", "avx", (), ("sse2", "fma4")))  # fmt: skip
    if "fma4" in Path("/proc/cpuinfo").read_text():
        pytest.skip("this CPU has FMA4")
    path = placed(build(Target("three", "a test", variants))[2], tmp_path)
    assert load_library(path, "tiny").isa == "sse2"
    assert load_library(path, "tiny", "_a").isa == "c99"


@X86
def test_the_table_of_targets_says_what_the_libraries_say(tmp_path):
    here = load_library(placed(build(TARGETS["x86-64"])[2], tmp_path), "tiny").isa
    isas = [variant.isa for variant in TARGETS["x86-64"].variants]
    for name in ("generic", "x86-64-v3", "x86-64-v4"):
        target = TARGETS[name]
        runnable = [v.isa for v in target.variants if v.isa == "c99" or isas.index(v.isa) <= isas.index(here)]
        loaded = load_library(placed(build(target)[2], tmp_path / name), "tiny")
        assert (loaded and loaded.isa) == (runnable[-1] if runnable else None)


# --- pixels -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["generic", "native"])
@pytest.mark.parametrize(
    ("channels", "preprocessing"),
    [
        (1, GREY),
        (1, replace(GREY, pad=(2, 1))),
        (3, Preprocessing(None, 1 / 255, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), pad=(1, 2))),
        (3, Preprocessing(None, 1.0, (127.5, 0.0, 3.0), (1.0, 58.4, 0.1))),
    ],
)
def test_pixels_become_the_bits_of_the_runtimes_own_preprocessing(tmp_path, target, channels, preprocessing):
    target = native_target() if target == "native" else TARGETS[target]
    program, _, library = build(target, preprocessing, channels=channels)
    path = placed(library, tmp_path)
    rows, columns = (8 - 2 * pad for pad in preprocessing.pad or (0, 0))
    images = np.random.default_rng(0).integers(0, 256, (11, rows, columns, channels)).astype(np.uint8)
    batch = input_from_pixels(images, preprocessing, (channels, 8, 8))
    loaded = load_library(path, "tiny")
    code, expected = infer(loaded, program, batch)
    assert code == 0
    from_pixels = replace(loaded, infer=ctypes.CDLL(str(path))["tiny_infer_u8"])
    from_pixels.infer.argtypes = loaded.infer.argtypes
    code, found = infer(from_pixels, replace(program, arena_bytes=program.pixel_arena_bytes), images)
    assert code == 0
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("preprocessing", "why"),
    [
        (None, "nothing says how images become this input"),
        (replace(GREY, resize=(8, 8)), "images are resized for this network, which is left to the caller"),
    ],
)
def test_a_network_without_a_function_for_pixels_says_why(preprocessing, why):
    _, pixels, files = tiny_sources(tiny_graph(), TARGETS["generic"], preprocessing)
    assert pixels == why
    assert f"/* There is no tiny_infer_u8: {why}. */" in files["tiny.h"].decode()
    assert b"infer_u8(" not in files["tiny.c"]


# --- the compiler -----------------------------------------------------------------------------------------------------


def test_without_a_compiler(monkeypatch):
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", os.devnull)
    with pytest.raises(NoCompilerError, match=r"no C compiler here \(cc, gcc, clang\): apt-get install gcc libc6-dev"):
        find_compiler()


def test_compilers_that_are_named_and_not_there(monkeypatch):
    monkeypatch.setenv("CC", "no-such-compiler -m32")
    with pytest.raises(MissingCapabilityError, match="CC names 'no-such-compiler', which is not on the path: unset CC"):
        find_compiler()
    with pytest.raises(MissingCapabilityError, match="--cc names 'none-either', which is not on the path: leave --cc"):
        find_compiler("none-either")


def test_what_is_named_comes_before_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("CC", "no-such-compiler")
    assert find_compiler(installed("gcc")).command == (installed("gcc"),)


def script(folder, body):
    path = folder / "odd-cc"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


def test_a_compiler_that_tells_no_version(tmp_path):
    with pytest.raises(
        MissingCapabilityError, match="--version' tells no version, so it is no compiler: give one, as in --cc gcc"
    ):
        find_compiler(script(tmp_path, "exit 1"))


def test_a_compiler_that_does_not_tell_its_machine(tmp_path):
    odd = find_compiler(script(tmp_path, 'if [ "$1" = --version ]; then echo odd 1.0; else exit 1; fi'))
    with pytest.raises(MissingCapabilityError, match="-dumpmachine' does not tell what it makes code for"):
        machine_of(odd)


def test_the_words_of_a_compiler_that_fails():
    cc = find_compiler(installed("gcc"))
    target = Target("odd", "a test", (Variant("", "c99", ("-march=no-such-cpu",)),), vectors=False)
    program, _, files = tiny_sources(tiny_graph(), target)
    with pytest.raises(CompileError, match=r"does not compile tiny.c: .*no-such-cpu") as caught:
        build_library("tiny", files, dispatch_source(program, target, False), target, cc, machine_of(cc))
    assert "no-such-cpu" in caught.value.log
    assert caught.value.exit_code == 3


# --- ELF --------------------------------------------------------------------------------------------------------------


def test_code_bytes_are_those_that_readelf_counts(tmp_path):
    readelf = shutil.which("readelf")
    if readelf is None:
        pytest.skip("readelf is not installed: apt-get install binutils")
    library = build(native_target())[2]
    shown = subprocess.run(
        [readelf, "-SW", placed(library, tmp_path)], capture_output=True, text=True, check=True
    ).stdout
    rows = [
        line.split("]", 1)[1].split() for line in shown.splitlines() if line.lstrip().startswith("[") and "]" in line
    ]
    sizes = [int(row[4], 16) for row in rows if len(row) > 6 and "X" in row[6]]
    assert code_bytes(library.content) == sum(sizes) > 1000


def test_what_is_no_elf_has_no_code_that_we_count():
    assert code_bytes(b"MZ" + bytes(100)) is None
    assert code_bytes(b"\x7fELF") is None
