"""The page of all engines, from reports made by hand: what it says of who is fastest, by arithmetic."""

import copy
import gzip
import importlib.util
import json
import re
from pathlib import Path

import pytest

from edgeline_bench.checksums import sealed
from edgeline_bench.peers.overview import Run, engines_of, page_of
from tests.benchmarks.made import made_report, rounds_scaled

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "experiments" / "engines.py"


def of(batch, valid=True, native=0.5, left_out=()):
    """A report of eager, onnxruntime and the C library, which takes `native` times the time of onnxruntime."""
    report = copy.deepcopy(made_report())
    rows = [row for row in report["results"] if row["batch"] == 1]
    ours = {**copy.deepcopy(rows[1]), "engine": "native", "artefact": "lenet-mnist-10k.fp32.c"}
    narrow = {**copy.deepcopy(rows[1]), "engine": "openvino", "precision": "bf16", "arithmetic": "bf16",
              "artefact": "lenet-mnist-10k.bf16.openvino"}  # fmt: skip
    report["results"] = [*rows, ours, narrow]
    for row in report["results"]:
        row["batch"] = batch
    report |= {"valid": valid, "invalid_reasons": [] if valid else ["it was noisy"], "left_out": list(left_out)}
    return rounds_scaled(rounds_scaled(report, native, rows=[2]), 2.0, rows=[3])


def run(batch=1, threads=1, **options):
    return Run("lenet", threads, batch, f"lenet-threads{threads}-batch{batch}.json.gz", of(batch, **options))


def test_where_ours_is_the_fastest_nothing_is_conceded():
    page = page_of([run(1), run(8)], "make it")
    assert "Of 2 cases (a network, precision" in page
    assert "it is not the fastest in 0." in page
    assert "`make it`" in page


def test_where_another_is_faster_the_page_says_so_and_by_how_much():
    page = page_of([run(1), run(8, native=1.5)], "make it")
    assert "it is not the fastest in 1:" in page
    (line,) = re.findall("^- lenet fp32, batch 8, 1 thread: onnxruntime .*$", page, re.M)
    assert re.search(r"1\.50 times its time \(1\.[34]\d to 1\.[56]\d\)", line)


def test_a_table_has_a_row_for_each_engine_and_bf16_is_its_own():
    page = page_of([run(1), run(8)], "make it")
    table = page[page.index("## lenet fp32, 1 thread") :].split("\n\n")[1]
    rows = [line.split(" | ")[0].removeprefix("| ") for line in table.splitlines()[2:]]
    assert rows == ["native", "onnxruntime", "openvino bf16", "eager"]  # fastest first: 15, 30, 60 and 120 us
    cells = table.splitlines()[3].strip("| ").split(" | ")
    assert cells[2] == cells[4] == "2.00"  # onnxruntime's times, in those of the C library


def test_a_report_that_is_not_valid_is_marked_and_its_reason_told():
    page = page_of([run(1, valid=False)], "make it")
    assert "0 of 1 report VALID" in page
    assert "us (!)" in page
    assert "INVALID: it was noisy" in page


def test_what_was_left_out_is_told_once():
    left = ({"format": "trt", "precision": "fp32", "why": "no NVIDIA GPU to run on"},)
    page = page_of([run(1, left_out=left), run(8, left_out=left)], "make it")
    assert page.count("no NVIDIA GPU to run on") == 1
    assert "| trt | fp32 | lenet | no NVIDIA GPU to run on |" in page


def test_engines_are_counted_once():
    assert engines_of([run(1), run(8)]) == ["eager", "onnxruntime", "native", "openvino"]


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("engines_script", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_script_reads_its_reports_back(script, tmp_path, capsys):
    folder = tmp_path / "peers"
    folder.mkdir()
    for each in (run(8), run(1), run(1, threads=2)):
        (folder / each.file).write_bytes(gzip.compress(json.dumps(sealed(each.report)).encode()))
    assert script.main(["--out", str(tmp_path / "peers.md"), "--page-only"]) == 0
    assert "3 reports" in capsys.readouterr().out
    page = (tmp_path / "peers.md").read_text()
    assert page.index("lenet-threads1-batch1.json.gz") < page.index("lenet-threads1-batch8") < page.index("threads2")
    assert script.main(["--out", str(tmp_path / "none.md"), "--page-only"]) == 2


def test_a_valid_report_is_not_measured_again(script, tmp_path, monkeypatch):
    folder = tmp_path / "peers"
    folder.mkdir()
    for each in (run(1), run(8, valid=False)):
        (folder / each.file).write_bytes(gzip.compress(json.dumps(each.report).encode()))
    asked = []

    def measured(args, path, model, threads, batch):
        asked.append((model, threads, batch))
        return of(batch)

    monkeypatch.setattr(script, "_report", measured)
    argv = ["--out", str(tmp_path / "peers.md"), "--models", "lenet", "--threads", "1", "--batches", "1", "8"]
    assert script.main(argv) == 0
    assert asked == [("lenet", 1, 8)]
    assert script.read_report(folder / "lenet-threads1-batch8.json.gz")["valid"]
