"""examples/linux-c: a CMake project of somebody's, built against a real artefact, and what it says of images."""

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest

import edgeline
import edgeline.artefact
import edgeline_export.cli
from edgeline.images import array_from_file
from tests.examples.conftest import DIGITS, EXAMPLES
from tests.export.c.harness import compiler
from tests.export.c.tiny import tiny_batch, tiny_graph

PROJECT = EXAMPLES / "linux-c"
FOUR, TWO, _ = DIGITS


def needs(*programs):
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed: apt-get install {program.replace('ctest', 'cmake')}")


def cmake(artefact, build, *options):
    """Configure and build; return the last run."""
    needs("cmake", "ctest")
    argv = ["cmake", "-S", PROJECT, "-B", build, f"-DEDGELINE_ARTEFACT={artefact}", *options]
    done = subprocess.run(argv, capture_output=True, text=True)
    if done.returncode:
        return done
    return subprocess.run(["cmake", "--build", build], capture_output=True, text=True)


def run(program, *images):
    return subprocess.run([program, *images], capture_output=True, text=True)


@pytest.fixture(scope="module")
def built(exported_c, tmp_path_factory):
    """The folder that the project was built in."""
    compiler("gcc")
    build = tmp_path_factory.mktemp("linux-c")
    done = cmake(exported_c, build, "-DCMAKE_C_COMPILER=gcc", "-DCMAKE_C_FLAGS=-Werror -Wconversion -Wpedantic")
    assert done.returncode == 0, done.stdout + done.stderr
    return build


def test_it_classifies(built, classes):
    done = run(built / "classify", *DIGITS)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [f"{path}: {classes[path]}" for path in DIGITS]


def test_it_brings_the_self_test(built):
    done = subprocess.run(["ctest", "--test-dir", built], capture_output=True, text=True)
    assert done.returncode == 0
    assert "lenet-selftest" in done.stdout


def test_the_artefact_is_left_alone(built, exported_c):
    listed = {"manifest.json", *edgeline.artefact.open_artefact(exported_c).manifest.files}
    assert {path.name for path in exported_c.iterdir()} == listed


@pytest.mark.parametrize(
    "content",
    [
        b"P5\n28 28\n255\n",
        b"P5 28 28 255 ",
        b"P5 # one\n# two\n28 # columns\n#\n28\n# the largest value\n255\n",
    ],
)
def test_headers_that_the_format_allows(built, tmp_path, classes, content):
    path = tmp_path / "image.pgm"
    path.write_bytes(content + array_from_file(FOUR).tobytes())
    assert run(built / "classify", path).stdout == f"{path}: {classes[FOUR]}\n"


def test_text_with_comments_and_without_a_last_line_end(built, tmp_path, classes):
    path = tmp_path / "image.pgm"
    numbers = "\n".join(map(str, array_from_file(TWO).ravel()))
    path.write_text(f"P2\n28\n28\n255# here, too\n# 2\n{numbers}")
    assert run(built / "classify", path).stdout == f"{path}: {classes[TWO]}\n"


PIXELS = bytes(784)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no PGM image"),
        (b"P6\n28 28\n255\n" + PIXELS * 3, "no PGM image: it begins with neither P2 nor P5"),
        (b"P5\n28 x\n255\n" + PIXELS, "its header is damaged"),
        (b"P5\n28 28", "its header is damaged"),
        (b"P5\n-28 28\n255\n", "its header is damaged"),
        (b"P5\n28 0\n255\n", "its header is damaged"),
        (b"P5\n99999999999999999999 28\n255\n", "its header is damaged"),
        (b"P5\n# a comment without an end", "its header is damaged"),
        (b"P5\n32 24\n255\n" + PIXELS, "32 x 24 pixels, expected 28 x 28"),
        (b"P5\n28 28\n65535\n" + PIXELS * 2, "its largest value is 65535, expected 255"),
        (b"P5\n28 28\n15\n" + PIXELS, "its largest value is 15, expected 255"),
        (b"P5\n28 28\n255\n" + PIXELS[1:], "it ends, or is damaged, after 783 of 784 pixels"),
        (b"P2\n28 28\n255\n" + b"0 " * 783, "it ends, or is damaged, after 783 of 784 pixels"),
        (b"P2\n28 28\n255\n" + b"0 " * 10 + b"-1 ", "it ends, or is damaged, after 10 of 784 pixels"),
        (b"P2\n28 28\n255\n" + b"0 " * 10 + b"256 " * 774, "pixel 10 is 256, above its largest value"),
    ],
)
def test_images_that_cannot_be_used(built, tmp_path, content, words):
    path = tmp_path / "image.pgm"
    path.write_bytes(content)
    done = run(built / "classify", path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"classify: {path}: ")
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_file_that_is_not_there(built):
    done = run(built / "classify", FOUR, "nowhere.pgm")
    assert done.returncode == 2
    assert done.stdout.startswith(f"{FOUR}: ")
    assert done.stderr == "classify: nowhere.pgm: No such file or directory\n"
    assert run(built / "classify").returncode == 2


def test_the_makefile_takes_the_shared_library(exported_c, tmp_path, classes):
    needs("make", "pkg-config")
    compiler("cc")
    argv = ["make", "-C", PROJECT, f"ARTEFACT={exported_c}", f"BUILD={tmp_path}"]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert run(tmp_path / "classify", *DIGITS).stdout.splitlines() == [f"{path}: {classes[path]}" for path in DIGITS]
    libraries = subprocess.run(["ldd", tmp_path / "classify"], capture_output=True, text=True).stdout
    assert str(exported_c / "liblenet.so") in libraries


@pytest.fixture
def tiny(tmp_path, command):
    """A network of 8 x 8 pixels and four classes, under a name that C does not take, without labels: its artefact."""

    def run(*options):
        onnx.save(tiny_graph(), tmp_path / "tiny.onnx")
        np.savez(tmp_path / "inputs.npz", inputs=tiny_batch(count=20))
        samples = ("--samples", tmp_path / "inputs.npz")
        argv = (tmp_path / "tiny.onnx", "--format", "c", "--name", "7-net", *samples, "--out", tmp_path, *options)
        code, _, err = command(edgeline_export.cli.main, *argv)
        assert code == 0, err
        return tmp_path / "7-net.fp32.c"

    return run


def test_a_network_without_images_is_refused_by_the_build(tiny, tmp_path):
    done = cmake(tiny(), tmp_path / "build")
    assert done.returncode != 0
    assert "n_7_net has no function for images" in done.stdout + done.stderr


def test_another_network_is_another_option(tiny, edit_manifest, tmp_path):
    """Only the sources count: this one gets the function for images that --samples alone cannot give."""
    folder = tiny()
    header = folder / "n_7_net.h"
    macros = "U8_HEIGHT 8", "U8_WIDTH 8", "U8_CHANNELS 1", "U8_ARENA_BYTES N_7_NET_ARENA_BYTES"
    declared = "int n_7_net_infer_u8(const uint8_t *, float *, size_t, void *, size_t);"
    lines = "\n".join([*(f"#define N_7_NET_{macro}" for macro in macros), declared])
    header.write_text(header.read_text().replace("EDGELINE_API const char *", f"{lines}\nEDGELINE_API const char *"))
    source = folder / "n_7_net.c"
    source.write_text(
        source.read_text()
        + "int n_7_net_infer_u8(const uint8_t *pixels, float *output, size_t n, void *arena, size_t bytes)\n"
        "{\n    float input[64];\n    for (int i = 0; i < 64; i++) input[i] = (float)pixels[i];\n"
        "    return n_7_net_infer(input, output, n, arena, bytes);\n}\n"
    )
    done = cmake(folder, tmp_path / "build")
    assert done.returncode == 0, done.stdout + done.stderr
    pixels = np.arange(64, dtype=np.uint8) * 3
    image = tmp_path / "image.pgm"
    image.write_bytes(b"P5 8 8 255\n" + pixels.tobytes())
    with edgeline.load(exported_graph(folder, edit_manifest), engine="onnxruntime") as session:
        best = session.infer(pixels.astype(np.float32).reshape(1, 1, 8, 8)).argmax()
    assert run(tmp_path / "build" / "classify", image).stdout == f"{image}: class {best}\n"


def exported_graph(folder: Path, edit_manifest) -> Path:
    edit_manifest(folder)  # its sources were changed
    return folder


@pytest.mark.parametrize(
    ("make_folder", "words"),
    [
        (lambda folder: "", "'' is no artefact: name its folder with -DEDGELINE_ARTEFACT"),
        (lambda folder: folder, "is no artefact: name its folder"),
        (
            lambda folder: (folder / "manifest.json").write_text('{"compilation": null}') and folder,
            "holds no C sources",
        ),
    ],
)
def test_what_is_no_artefact_of_c(tmp_path, make_folder, words):
    done = cmake(make_folder(tmp_path), tmp_path / "build")
    assert done.returncode != 0
    assert words in " ".join(done.stderr.split())


@pytest.mark.cross
@pytest.mark.parametrize(
    ("triplet", "processor", "emulator"),
    [
        ("aarch64-linux-gnu", "aarch64", "qemu-aarch64"),
        ("arm-linux-gnueabihf", "arm", "qemu-arm"),
        ("riscv64-linux-gnu", "riscv64", "qemu-riscv64"),
    ],
)
def test_it_cross_compiles(weights_folder, command, tmp_path, classes, triplet, processor, emulator):
    for program, package in ((f"{triplet}-gcc", f"gcc-{triplet}"), (emulator, "qemu-user")):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed: apt-get install {package}")
    argv = ("lenet", "--weights", weights_folder, "--format", "c", "--target", "generic", "--out", tmp_path)
    code, _, err = command(edgeline_export.cli.main, *argv)
    assert code == 0, err
    toolchain = tmp_path / "toolchain.cmake"
    root = f"/usr/{triplet}"
    toolchain.write_text(
        f"set(CMAKE_SYSTEM_NAME Linux)\nset(CMAKE_SYSTEM_PROCESSOR {processor})\n"
        f"set(CMAKE_C_COMPILER {triplet}-gcc)\nset(CMAKE_CROSSCOMPILING_EMULATOR {emulator};-L;{root})\n"
    )
    build = tmp_path / "build"
    done = cmake(tmp_path / "lenet-mnist-10k.fp32.c@generic", build, f"-DCMAKE_TOOLCHAIN_FILE={toolchain}")
    assert done.returncode == 0, done.stdout + done.stderr
    argv = [emulator, "-L", root, build / "classify", *DIGITS]
    found = subprocess.run(argv, capture_output=True, text=True, env={**os.environ})
    assert found.stdout.splitlines() == [f"{path}: {classes[path]}" for path in DIGITS], found.stderr
    assert subprocess.run(["ctest", "--test-dir", build], capture_output=True).returncode == 0
