"""Run the tests marked `gpu` and write what was found: python tests/checks/gpu_check.py [REPORT.md]

The report is written anew at every step, so that a crash of a library, which takes this process with it, leaves one
that names the test it happened in. Exits as pytest does (0: nothing failed), and with 3 where there is no GPU to check.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import platform
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgeline.cuda import Gpu, gpu

_PACKAGES = (
    "edgeline", "torch", "onnxruntime", "onnxruntime-gpu", "cuda-bindings", "tensorrt", "tensorrt-rtx",
    "tensorrt-rtx-cu13-bindings",
)  # fmt: skip
_DEFAULT = Path("reports") / "gpu-check.md"
_UNFINISHED = "**Not finished: the process is at work, or it died in the test that is `running`.**"
_CELL, _DETAIL = 200, 6000  # characters


@dataclass(slots=True)
class Row:
    """A test: "running", "passed", "failed" or "skipped", with the reason, and all the words of a failure."""

    outcome: str = "running"
    why: str = "set-up"
    detail: str = ""


class Report:
    """A pytest plugin that keeps the report at `path` up to date; `head` is what it begins with."""

    def __init__(self, path: Path, head: list[str]) -> None:
        self._path = path
        self._head = head
        self._rows: dict[str, Row] = {}
        self._result = _UNFINISHED
        self._write()

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Name the test before anything of it runs."""
        self._rows[nodeid] = Row()
        self._write()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take what came of a test's set-up, call or tear-down; it has passed only when the last of them has."""
        row = self._rows[report.nodeid]
        if report.failed:
            row.outcome = "failed"
            _tell(row, report)
        elif report.skipped and row.outcome != "failed":
            row.outcome = "skipped"
            row.why = str(report.longrepr[2]).removeprefix("Skipped: ") if isinstance(report.longrepr, tuple) else ""
        elif row.outcome == "running":
            row.why = {"setup": "call", "call": "teardown"}.get(report.when, "")
        if report.when == "teardown" and row.outcome == "running":
            row.outcome, row.why = "passed", ""
        self._write()

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Take a file that could not be read."""
        if report.failed:
            self._rows[report.nodeid] = row = Row("failed")
            _tell(row, report)
            self._write()

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        """Say how it ended."""
        outcomes = [row.outcome for row in self._rows.values()]
        counts = ", ".join(f"{outcomes.count(kind)} {kind}" for kind in ("passed", "failed", "skipped"))
        self._result = f"{counts}; pytest ended with {int(exitstatus)}."
        self._write()

    def _write(self) -> None:
        table = ["| test | outcome | why |", "| --- | --- | --- |"]
        details = []
        for nodeid, row in self._rows.items():
            name = nodeid.partition("::")[2] or nodeid
            first = (row.why.splitlines() or [""])[0].replace("|", "/")[:_CELL]
            table.append(f"| {name} | {row.outcome} | {first} |")
            if row.detail:
                lines = row.detail[:_DETAIL].splitlines()
                details += ["", f"## {name}", "", *("    " + line for line in lines)]  # indented: Markdown's code
        lines = [*self._head, "", self._result, "", *table, *details, ""]
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text("\n".join(lines), encoding="utf-8")


def _tell(row: Row, report: pytest.TestReport | pytest.CollectReport) -> None:
    """Put a failure's words into a row, behind those of an earlier one of the same test."""
    crash = getattr(report.longrepr, "reprcrash", None)
    words = str(report.longrepr if crash is None else crash.message).strip()
    if report.when in ("setup", "teardown"):
        words = f"in its {report.when}: {words}"
    row.detail = f"{row.detail}\n{words}".strip()
    row.why = row.detail


def main(argv: list[str]) -> int:
    """Check, keep the report, and say where it is."""
    here = gpu()
    if here is None:
        print("gpu-check: no NVIDIA GPU or no driver here; nothing was checked", file=sys.stderr)
        return 3
    path = Path(argv[0]) if argv else _DEFAULT
    code = pytest.main(["-m", "gpu", "-rs", "tests/gpu"], plugins=[Report(path, _head(here))])
    print(f"gpu-check: {path}")
    return int(code)


def _head(here: Gpu) -> list[str]:
    return [
        "# GPU check",
        "",
        f"{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d}, {here.name} (compute capability "
        f"{here.compute_capability}, {here.memory_bytes / 2**30:.0f} GiB), driver for CUDA {here.driver}, Python "
        f"{platform.python_version()} on {platform.machine()}.",
        "",
        "Versions: " + ", ".join(_versions()) + ".",
    ]


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
