"""Run the tests marked `gpu` and write what was found: python tests/checks/gpu_check.py [REPORT.md]

Exits as pytest does (0: nothing failed), and with 3 where there is no GPU to check on.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import platform
import sys
from pathlib import Path

import pytest

from edgeline.cuda import gpu

_PACKAGES = (
    "edgeline", "torch", "onnxruntime", "onnxruntime-gpu", "cuda-bindings", "tensorrt", "tensorrt-rtx",
    "tensorrt-rtx-cu13-bindings",
)  # fmt: skip
_DEFAULT = Path("reports") / "gpu-check.md"


class Collector:
    """Keeps the outcome of every test, with the reason of a skip and the last line of a failure."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str, str]] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take a test's own report, and those of a set-up that skipped or failed."""
        if report.when == "call" or (report.when == "setup" and not report.passed):
            words = ""
            if report.skipped and isinstance(report.longrepr, tuple):
                words = str(report.longrepr[2]).removeprefix("Skipped: ")
            elif report.failed:
                words = str(report.longrepr).strip().splitlines()[-1]
            self.rows.append((report.nodeid.partition("::")[2], report.outcome, words))


def main(argv: list[str]) -> int:
    """Check, write the report, and say where it is."""
    here = gpu()
    if here is None:
        print("gpu-check: no NVIDIA GPU or no driver here; nothing was checked", file=sys.stderr)
        return 3
    collector = Collector()
    code = pytest.main(["-m", "gpu", "-rs", "tests/gpu"], plugins=[collector])
    memory = here.memory_bytes / 2**30
    lines = [
        "# GPU check",
        "",
        f"{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d}, {here.name} (compute capability "
        f"{here.compute_capability}, {memory:.0f} GiB), driver for CUDA {here.driver}, Python "
        f"{platform.python_version()} on {platform.machine()}.",
        "",
        "Versions: " + ", ".join(_versions()) + ".",
        "",
        "| test | outcome | why |",
        "| --- | --- | --- |",
        *(f"| {name} | {outcome} | {words.replace('|', '/')} |" for name, outcome, words in collector.rows),
        "",
    ]
    report = Path(argv[0]) if argv else _DEFAULT
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text("\n".join(lines), encoding="utf-8")
    print(f"gpu-check: {report}")
    return int(code)


def _versions() -> list[str]:
    found = []
    for name in _PACKAGES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
