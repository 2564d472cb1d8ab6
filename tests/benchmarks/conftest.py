"""Shared by the tests of reports and their comparison."""

import pytest

from edgeline_bench.report import write_report


@pytest.fixture
def written(tmp_path):
    """Write a report into the test's own folder and return its path."""

    def write(report, name="r.json"):
        write_report(tmp_path / name, report)
        return tmp_path / name

    return write
