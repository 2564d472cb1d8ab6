"""`export-model --format c`: what the artefact holds, how its sources build, and what is said where they cannot."""

import json
import os
import platform
import shlex
import shutil
import subprocess
from types import SimpleNamespace

import numpy as np
import onnx
import pytest

import edgeline
import edgeline.cli
import edgeline_export.cli
from edgeline.architecture import architecture_from_name
from edgeline.artefact import open_artefact
from edgeline_export.c.artefact import selftest_in_c
from edgeline_export.c.targets import TARGETS
from tests.conftest import one_line
from tests.export.c.harness import compiler
from tests.export.c.tiny import tiny_batch, tiny_graph, tiny_sources

MAIN = edgeline_export.cli.main
STRICT = ("-std=c99", "-Wall", "-Wextra", "-Wconversion", "-Wpedantic", "-Werror")


@pytest.fixture(scope="module")
def graph_file(tmp_path_factory):
    """The tiny network as a file of somebody's, with inputs to judge it on."""
    folder = tmp_path_factory.mktemp("tiny")
    onnx.save(tiny_graph(), folder / "tiny.onnx")
    np.savez(folder / "inputs.npz", inputs=tiny_batch(count=20))
    return folder / "tiny.onnx"


@pytest.fixture
def export(graph_file, tmp_path, command):
    """Export the tiny network: (exit code, stderr, the artefact's folder, which need not be there)."""

    def run(*options, name="tiny.fp32.c"):
        samples = graph_file.with_name("inputs.npz")
        argv = (graph_file, "--format", "c", "--samples", samples, "--out", tmp_path / "out", *options)
        code, _, err = command(MAIN, *argv)
        return code, err, tmp_path / "out" / name

    return run


def odd_compiler(folder, compiles, machine=None):
    """A program that answers as a compiler does, and compiles by the command `compiles`."""
    path = folder / "odd-cc"
    path.write_text(
        "#!/bin/sh\n"
        'if [ "$1" = --version ]; then echo "odd-cc 7.0"; exit; fi\n'
        f'if [ "$1" = -dumpmachine ]; then echo "{machine or platform.machine() + "-linux-gnu"}"; exit; fi\n'
        f"{compiles}\n"
    )
    path.chmod(0o755)
    return path


# --- what it holds ----------------------------------------------------------------------------------------------------


def test_the_artefact_of_lenet(exported_c):
    artefact = open_artefact(exported_c)
    manifest = artefact.manifest
    assert set(manifest.files) == {
        "CMakeLists.txt", "lenet.c", "lenet.h", "lenet.pc", "liblenet.so", "main.c", "model.onnx", "selftest.bin",
        "selftest.npz",
    }  # fmt: skip
    assert (manifest.format, manifest.build) == ("c", "built")
    assert manifest.target["architecture"] == architecture_from_name(platform.machine())
    record = manifest.compilation
    assert record["prefix"] == "lenet"
    assert record["arena_bytes"] > 0
    # LeNet's 61,706 parameters, as floats in blocks of 16 channels, and the 256 values of a pixel.
    assert 4 * 61_706 < record["weights_bytes"] < 1.3 * 4 * 61_706
    assert 0 < record["code_bytes"] < len((exported_c / "liblenet.so").read_bytes())
    assert record["variants"]
    assert manifest.verification["engine"].startswith("native, ")
    assert manifest.verification["max_abs_diff"] < 1e-4


def test_the_header_serves_the_exact_sizes(exported_c):
    header = (exported_c / "lenet.h").read_text()
    record = open_artefact(exported_c).manifest.compilation
    assert f"#define LENET_ARENA_BYTES {record['arena_bytes']}\n" in header
    assert f"#define LENET_U8_ARENA_BYTES {record['u8_arena_bytes']}\n" in header
    # LeNet of MNIST: 28 x 28 pixels, ten digits.
    for line in ("INPUTS 784", "OUTPUTS 10", "U8_HEIGHT 28", "U8_WIDTH 28", "U8_CHANNELS 1"):
        assert f"#define LENET_{line}\n" in header
    assert '#define LENET_LABELS { \\\n    "0", "1", "2", "3", "4", "5", "6", "7", "8", "9" }\n' in header
    assert (
        "uint8_t [n, 28, 28], preprocessed as the manifest says:\n * (pixel * 0.0039215686 - 0.1313) / 0.3089" in header
    )


def test_it_is_judged_by_the_library_and_it_runs(export, graph_file):
    code, err, folder = export("--require-engine")
    assert code == 0, err
    assert "through the export (native, " in err
    with edgeline.load(folder) as session, edgeline.load(folder, engine="onnxruntime") as reference:
        batch = tiny_batch(count=70)
        np.testing.assert_allclose(session.infer_all(batch), reference.infer_all(batch), rtol=0, atol=1e-5)


def test_the_same_export_gives_the_same_files(export, tmp_path):
    first = export()[2]
    kept = shutil.copytree(first, tmp_path / "kept")
    again = export()[2]
    for path in kept.iterdir():
        if path.name not in ("manifest.json", "selftest.npz"):
            assert path.read_bytes() == (again / path.name).read_bytes(), path.name


def test_a_target_stands_in_the_name(export):
    code, err, folder = export("--target", "generic", name="tiny.fp32.c@generic")
    assert code == 0, err
    manifest = open_artefact(folder).manifest
    assert manifest.target["name"] == "generic"
    assert [variant["isa"] for variant in manifest.compilation["variants"]] == ["c99"]
    assert manifest.verification["engine"] == "native, c99"


def test_a_name_that_c_does_not_take(export):
    code, err, folder = export("--name", "7-net.v2", name="7-net.v2.fp32.c")
    assert code == 0, err
    assert {"n_7_net_v2.c", "n_7_net_v2.h", "libn_7_net_v2.so"} <= {path.name for path in folder.iterdir()}
    with edgeline.load(folder) as session:
        assert session.infer(tiny_batch(count=1)).shape == (1, 4)


def test_the_list_of_formats(command, monkeypatch):
    code, out, _ = command(MAIN, "--list-formats")
    assert code == 0
    assert "c        C99 library for --target" in out
    monkeypatch.setattr("edgeline_export.c.compiler.CANDIDATES", ())
    monkeypatch.delenv("CC", raising=False)
    code, out, _ = command(MAIN, "--list-formats", "--json")
    row = next(row for row in json.loads(out) if row["format"] == "c")
    assert row["available"]
    assert row["remark"].startswith("without a library here: there is no C compiler here")


# --- what is refused, and what is said --------------------------------------------------------------------------------


def test_without_a_compiler_the_sources_are_written(export, monkeypatch):
    monkeypatch.setattr("edgeline_export.c.compiler.CANDIDATES", ())
    monkeypatch.delenv("CC", raising=False)
    code, err, folder = export()
    assert code == 0
    assert "only C sources are written: there is no C compiler here" in err
    assert "(onnxruntime, the same graph)" in err
    manifest = open_artefact(folder).manifest
    assert manifest.build == "on-device"
    assert {"tiny.c", "tiny.h", "main.c", "CMakeLists.txt", "selftest.bin"} <= set(manifest.files)
    assert not {"libtiny.so", "tiny.pc"} & set(manifest.files)
    with edgeline.load(folder, engine="onnxruntime") as session:
        assert session.infer(tiny_batch(count=1)).shape == (1, 4)


def test_without_a_compiler_and_with_require_engine(export, monkeypatch):
    monkeypatch.setattr("edgeline_export.c.compiler.CANDIDATES", ())
    monkeypatch.delenv("CC", raising=False)
    code, err, folder = export("--require-engine")
    assert code == 3
    assert "without --require-engine the C sources alone are written" in one_line(err)
    assert not folder.exists()


def test_a_failing_compiler_leaves_the_sources_and_its_words(export, tmp_path):
    code, _, folder = export()
    assert code == 0
    before = (folder / "manifest.json").read_bytes()
    cc = odd_compiler(tmp_path, 'echo "x.c:1:2: error: cannot do it" >&2; echo "second line" >&2; exit 1')
    code, err, folder = export("--cc", cc)
    assert code == 3
    assert "error: cannot do it; sources and compiler.log are in " in one_line(err)
    assert "\n  second line\n" in err
    failed = folder.with_name("tiny.fp32.c.failed")
    assert {path.name for path in failed.iterdir()} == {"tiny.c", "tiny.h", "compiler.log"}
    assert "second line" in (failed / "compiler.log").read_text()
    assert (folder / "manifest.json").read_bytes() == before  # the older artefact stays
    assert not (failed / "manifest.json").exists()


def test_missing_headers_are_named(export, tmp_path):
    cc = odd_compiler(tmp_path, 'echo "x.c:1:2: fatal error: math.h: No such file or directory" >&2; exit 1')
    code, err, _ = export("--cc", cc)
    assert code == 3
    assert "the C library's headers are missing" in one_line(err)
    assert "apt-get install libc6-dev" in one_line(err)


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--target", "x86"], 2, "unknown target 'x86' (did you mean x86-64"),
        (["--cc", "no-such-compiler"], 3, "--cc names 'no-such-compiler', which is not on the path"),
        (["--cc", ""], 2, "--cc is empty"),
        (["--compute-capability", "8.9"], 2, "--compute-capability is for --format trt-rtx, not for c"),
        (["--precision", "fp16"], 2, "unknown precision of format c 'fp16'"),
    ],
)
def test_bad_options_are_one_line_and_write_nothing(export, options, code, words):
    found, err, folder = export(*options)
    assert (found, words in one_line(err)) == (code, True), err
    assert not folder.exists()


def test_a_compiler_for_another_architecture_than_the_targets(export, tmp_path):
    cc = odd_compiler(tmp_path, "exit 1", "riscv64-linux-gnu")
    code, err, _ = export("--cc", cc, "--target", "x86-64-v3")
    assert code == 2
    assert "makes code for riscv64, the target x86-64-v3 is not for that" in one_line(err)


def test_a_library_for_another_machine_is_judged_by_the_graph(export, tmp_path, monkeypatch):
    """What the compiler makes is really for this machine, but it says otherwise, and nobody may load it then."""
    monkeypatch.setattr("edgeline_export.c.user_emulator.shutil", SimpleNamespace(which=lambda name: None))
    cc = odd_compiler(tmp_path, f'exec {compiler("gcc")} "$@"', "riscv64-linux-gnu")
    code, err, folder = export("--cc", cc, "--target", "generic", name="tiny.fp32.c@generic")
    assert code == 0, err
    assert "the library does not run on this machine: its graph is judged in its place" in err
    assert "no self-test of the library: qemu-riscv64 is not installed, apt-get install qemu-user" in err
    manifest = open_artefact(folder).manifest
    assert manifest.target == {"name": "generic", "architecture": "riscv64"}
    assert manifest.verification["engine"] == "onnxruntime, the same graph"
    assert manifest.build == "built"


def test_a_compiler_for_bare_metal_gives_sources(export, tmp_path):
    cc = odd_compiler(tmp_path, "exit 1", "arm-none-eabi")
    code, err, folder = export("--cc", cc, "--target", "generic", name="tiny.fp32.c@generic")
    assert code == 0, err
    assert "makes code for arm-none-eabi, which has no shared libraries" in err
    assert open_artefact(folder).manifest.build == "on-device"


@pytest.mark.cross
def test_a_real_cross_compiler(export):
    cc = shutil.which("aarch64-linux-gnu-gcc")
    if cc is None:
        pytest.skip(
            "aarch64-linux-gnu-gcc is not installed: apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross"
        )
    code, err, folder = export("--cc", cc, "--target", "generic", name="tiny.fp32.c@generic")
    assert code == 0, err
    assert open_artefact(folder).manifest.target["architecture"] == "aarch64"


def test_a_library_that_computes_something_else_does_not_pass_the_gate(export, tmp_path):
    """The gate runs the very library: a compiler that breaks it is found out."""
    gcc = compiler("gcc")
    edit = 'sed -i "s/return EDGELINE_OK;/output[0] = 1e6f; return EDGELINE_OK;/" tiny.c'
    cc = odd_compiler(tmp_path, f'test -f tiny.c && {edit}\nexec {gcc} "$@"')
    code, err, folder = export("--cc", cc, "--target", "generic", name="tiny.fp32.c@generic")
    assert code == 1, err
    assert "nothing was written" in one_line(err)
    assert not folder.exists()


# --- the sources, built as a device does ------------------------------------------------------------------------------


@pytest.mark.parametrize("cc", ["gcc", "clang"])
def test_the_plain_command_line_of_the_readme(exported_c, tmp_path, cc):
    program = tmp_path / "selftest"
    argv = [compiler(cc), *STRICT, "main.c", "lenet.c", "-lm", "-o", str(program)]
    built = subprocess.run(argv, cwd=exported_c, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    done = subprocess.run([program], cwd=exported_c, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 17
    arrays = np.load(exported_c / "selftest.npz")
    assert [line.split()[-1] for line in lines[:16]] == [str(c) for c in arrays["logits"].argmax(axis=1)]
    assert lines[-1].startswith("largest difference ")


@pytest.fixture(scope="module")
def selftest(exported_c, tmp_path_factory):
    """main.c, compiled."""
    program = tmp_path_factory.mktemp("main") / "selftest"
    argv = [compiler("gcc"), "-O1", "main.c", "lenet.c", "-lm", "-o", str(program)]
    subprocess.run(argv, cwd=exported_c, check=True)
    return program


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (lambda content: content, 0, ""),
        (lambda content: content[:-4] + np.float32(1e3).tobytes(), 1, "1 outputs are further off than allowed"),
        (lambda content: content[:-4] + np.float32(np.nan).tobytes(), 1, "1 outputs are further off than allowed"),
        (lambda content: content[:-1], 2, "is not whole"),
        (lambda content: b"", 2, "is not whole"),
        (None, 2, "cannot be read: run this beside selftest.bin"),
    ],
)
def test_the_program_says_what_is_wrong(exported_c, selftest, tmp_path, change, code, words):
    path = tmp_path / "changed.bin"
    if change is not None:
        path.write_bytes(change((exported_c / "selftest.bin").read_bytes()))
    done = subprocess.run([selftest, path], capture_output=True, text=True)
    assert done.returncode == code
    assert words in done.stderr


def test_a_fixed_batch_fills_its_last_call():
    program, _, _ = tiny_sources(tiny_graph(), TARGETS["generic"])
    fixed = type(program)(**{
        **{name: getattr(program, name) for name in program.__slots__},
        "free_batch": False, "input": type(program.input)("input", "float32", (3, 1, 8, 8), 768),
    })  # fmt: skip
    inputs, outputs = tiny_batch(count=4), np.arange(16, dtype=np.float32).reshape(4, 4)
    files = selftest_in_c(fixed, inputs, outputs, 0.5, None)
    assert b"CALLS = 2, SAMPLES_PER_CALL = 3, INPUTS = 64, OUTPUTS = 4 " in files["main.c"]
    numbers = np.frombuffer(files["selftest.bin"], "<f4").reshape(2, 3 * (64 + 4))
    np.testing.assert_array_equal(numbers[1, :192].reshape(3, 1, 8, 8), np.repeat(inputs[3:], 3, axis=0))
    np.testing.assert_array_equal(numbers[1, 192:].reshape(3, 4), np.repeat(outputs[3:], 3, axis=0))


def test_labels_are_c_strings():
    program, _, _ = tiny_sources(tiny_graph(), TARGETS["generic"])
    labels = ('a "quoted" one', "back\\slash", "Größe", "what??/")
    main = selftest_in_c(program, tiny_batch(count=1), np.zeros((1, 4), np.float32), 0.5, labels)["main.c"].decode()
    assert r'{"a \042quoted\042 one", "back\134slash", "Gr\303\266\303\237e", "what\077\077/"}' in main


def test_cmake_builds_tests_and_installs_it(exported_c, tmp_path):
    for program in ("cmake", "ctest"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed: apt-get install cmake")
    compiler("cc")
    build, prefix = tmp_path / "build", tmp_path / "prefix"
    for argv in (
        ["cmake", "-S", exported_c, "-B", build, f"-DCMAKE_INSTALL_PREFIX={prefix}", "-DLENET_FLAGS=-march=native -g"],
        ["cmake", "--build", build],
        ["ctest", "--test-dir", build],
        ["cmake", "--install", build],
    ):
        done = subprocess.run(argv, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    assert (prefix / "include" / "lenet.h").is_file()
    assert list(prefix.glob("lib*/**/liblenet.a"))
    assert not list(exported_c.glob("build*"))


def test_pkg_config_finds_the_library_wherever_the_folder_lies(exported_c, tmp_path):
    if shutil.which("pkg-config") is None:
        pytest.skip("pkg-config is not installed: apt-get install pkg-config")
    moved = shutil.copytree(exported_c, tmp_path / "elsewhere")
    environment = {**os.environ, "PKG_CONFIG_PATH": str(moved)}
    argv = ["pkg-config", "--cflags", "--libs", "lenet"]
    flags = subprocess.run(argv, env=environment, capture_output=True, text=True, check=True).stdout
    program = tmp_path / "with-library"
    argv = [compiler("cc"), str(moved / "main.c"), *shlex.split(flags), f"-Wl,-rpath,{moved}", "-o", str(program)]
    subprocess.run(argv, check=True)
    done = subprocess.run([program, moved / "selftest.bin"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with edgeline.load(exported_c) as session:
        assert f"({session.isa})" in done.stdout  # the library, with its choice, and not the sources
