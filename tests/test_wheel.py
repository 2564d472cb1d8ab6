"""The built wheel, installed in an environment elsewhere, runs the commands: nothing it needs lies outside it."""

import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    out = tmp_path_factory.mktemp("dist")
    argv = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    result = subprocess.run(argv, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stdout + result.stderr
    (path,) = out.glob("edgeline-*.whl")
    return path


@pytest.mark.slow
def test_the_wheel_holds_the_four_packages_and_their_data(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {
        "edgeline", "edgeline_train", "edgeline_export", "edgeline_bench",
    }  # fmt: skip
    for package in ("edgeline", "edgeline_train", "edgeline_export", "edgeline_bench"):
        assert f"{package}/py.typed" in names
    assert {"edgeline_bench/page.html", "edgeline_bench/page.css", "edgeline_bench/page.js"} <= set(names)
    assert sum(name.startswith("edgeline_train/data/mnist-10k/") for name in names) == 5
    assert any(name.endswith("licenses/LICENSE") for name in names)
    source = ROOT / "export/edgeline_export/c/kernels"
    kernels = {f"edgeline_export/c/kernels/{path.name}" for path in source.glob("*.c")}
    templates = {f"edgeline_export/c/templates/{name}" for name in ("main.c", "CMakeLists.txt", "library.pc")}
    assert kernels | templates <= set(names)


@pytest.mark.slow
def test_its_commands_run_elsewhere(wheel, tmp_path):
    environment = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    python = environment / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(pip, check=True, capture_output=True)
    # The dependencies (5 GB of torch) are lent by this environment: a path line in a .pth file adds its packages, but
    # not the editable edgeline, whose own .pth is read only where it lies.
    site = next((environment / "lib").glob("python*/site-packages"))
    (site / "lent.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    work = tmp_path / "work"
    work.mkdir()
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    clean["PATH"] = f"{environment / 'bin'}:/usr/bin:/bin"

    def run(*argv):
        result = subprocess.run(argv, cwd=work, env=clean, capture_output=True, text=True, timeout=300)
        assert result.returncode == 0, f"{argv}: {result.stderr}"
        return result.stdout

    where = run("python", "-c", "import edgeline, edgeline_bench; print(edgeline.__file__, edgeline_bench.__file__)")
    assert where.count(str(environment)) == 2
    run("train-model", "lenet", "--epochs", "1")
    run("export-model", "lenet", "--format", "onnx", "--max-drop", "0.01")
    artefact = "artifacts/lenet-mnist-10k.fp32.onnx"
    for name in ("a.json", "b.json"):
        run("benchmark-model", artefact, "--out", name, "--batch", "1", "--rounds", "2", "--seconds", "0.1")
    (comparison,) = json.loads(run("compare-reports", "a.json", "b.json", "--json"))["comparisons"]
    assert len(comparison["rows"]) == 2
    argv = ["recommend-model", "lenet", "--report", "a.json"]
    refused = subprocess.run(argv, cwd=work, env=clean, capture_output=True, text=True, timeout=60)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "a.json is INVALID: 2 rounds, intervals need at least 20" in refused.stderr
    assert run("edgeline", "selftest", artefact).startswith("passed")
    run("export-model", "lenet", "--format", "c", "--require-engine", "--max-drop", "0.01")
    assert run("edgeline", "selftest", "artifacts/lenet-mnist-10k.fp32.c").startswith("passed: 16 inputs on native")
    assert not any(str(ROOT) in path.read_text(errors="replace") for path in (work / "artifacts").glob("*/*"))
