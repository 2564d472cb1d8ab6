"""The runtime promise: every module of `edgeline` imports where numpy is the only package."""

import subprocess
import sys
from pathlib import Path

import numpy

import edgeline

IMPORT_ALL = """
import importlib, pkgutil, sys
sys.path.insert(0, sys.argv[1])
import edgeline
names = [module.name for module in pkgutil.walk_packages(edgeline.__path__, "edgeline.")]
for name in names:
    if not name.endswith("__main__"):
        importlib.import_module(name)
foreign = {name.partition(".")[0] for name in sys.modules} - set(sys.stdlib_module_names)
foreign = {name for name in foreign if not name.startswith("_")}
assert foreign <= {"edgeline", "numpy"}, foreign
assert len(names) >= 15, names
print(edgeline.__version__)
"""


def test_every_module_imports_with_numpy_alone(tmp_path):
    site = Path(numpy.__file__).parent.parent
    for name in ("numpy", "numpy.libs"):  # numpy.libs holds the BLAS that numpy's wheel brings
        if (site / name).exists():
            (tmp_path / name).symlink_to(site / name)
    (tmp_path / "edgeline").symlink_to(Path(edgeline.__file__).parent)
    # -I -S: no site-packages, no environment variables, no current folder.
    result = subprocess.run(
        [sys.executable, "-I", "-S", "-c", IMPORT_ALL, str(tmp_path)], capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == edgeline.__version__
