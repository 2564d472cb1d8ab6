"""examples/linux-c: a CMake project of somebody's, built against a real artefact, and what it says of images."""

import re
import shutil
import subprocess

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
        b"P5 28# columns\n28 255# the pixels follow\n",
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


def test_a_network_without_images_is_refused_by_the_build(tmp_path, command):
    onnx.save(tiny_graph(), tmp_path / "tiny.onnx")
    np.savez(tmp_path / "inputs.npz", inputs=tiny_batch(count=20))
    samples = ("--samples", tmp_path / "inputs.npz", "--out", tmp_path)
    assert command(edgeline_export.cli.main, tmp_path / "tiny.onnx", "--format", "c", *samples)[0] == 0
    done = cmake(tmp_path / "tiny.fp32.c", tmp_path / "build")
    assert done.returncode != 0
    assert "tiny has no function for images" in done.stdout + done.stderr


@pytest.mark.slow
def test_another_network_is_another_option(tmp_path, command, monkeypatch, classes):
    """One of the user's, under a name that C does not take as it is."""
    (tmp_path / "own_network.py").write_text(
        "import torch\ndef net():\n    torch.manual_seed(1)\n"
        "    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    options = ("--input-shape", "1,28,28", "--dataset", "mnist-10k", "--name", "my-net", "--out", tmp_path)
    code, _, err = command(edgeline_export.cli.main, "own_network:net", "--format", "c", *options)
    assert code == 0, err
    folder = next(path for path in tmp_path.glob("my-net*") if path.is_dir())
    done = cmake(folder, tmp_path / "build")
    assert done.returncode == 0, done.stdout + done.stderr
    with edgeline.load(folder, engine="onnxruntime") as session:
        found = [session.classify(array_from_file(path))[0] for path in DIGITS]
    assert run(tmp_path / "build" / "classify", *DIGITS).stdout.splitlines() == [
        f"{path}: {label}" for path, label in zip(DIGITS, found, strict=True)
    ]


def graph_alone(folder):
    (folder / "manifest.json").write_text('{"compilation": null}')
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
    (text,) = re.findall(r"^```cmake\n(.*?)^```$", (PROJECT / "README.md").read_text(), re.M | re.S)
    text = text.replace("aarch64-linux-gnu", triplet).replace("qemu-aarch64", emulator)
    toolchain.write_text(text.replace("PROCESSOR aarch64", f"PROCESSOR {processor}"))
    build = tmp_path / "build"
    done = cmake(tmp_path / "lenet-mnist-10k.fp32.c@generic", build, f"-DCMAKE_TOOLCHAIN_FILE={toolchain}")
    assert done.returncode == 0, done.stdout + done.stderr
    argv = [emulator, "-L", f"/usr/{triplet}", build / "classify", *DIGITS]
    found = subprocess.run(argv, capture_output=True, text=True)
    assert found.stdout.splitlines() == [f"{path}: {classes[path]}" for path in DIGITS], found.stderr
    assert subprocess.run(["ctest", "--test-dir", build], capture_output=True).returncode == 0
