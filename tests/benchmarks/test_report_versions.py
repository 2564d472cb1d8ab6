"""Reports of older versions are read, of newer ones refused by name."""

import copy
import hashlib
import json

import pytest

import edgeline_bench.compare_cli
from edgeline.errors import InputError
from edgeline_bench import markdown, page
from edgeline_bench.report import read_report, write_report
from edgeline_bench.report_versions import SCHEMA_VERSION, upgrade
from tests.benchmarks.made import made_report


def first_version(seed=0):
    """A report as the first version wrote it: one checksum, over the samples and the reference kernel alone."""
    report = made_report(seed)
    del report["report_sha256"]
    report["schema_version"] = 1
    for result in report["results"]:
        for key in ("layer_profile", "energy", "arithmetic"):
            del result[key]
    digest = hashlib.sha256(json.dumps(report["reference_kernel"]["round_medians_s"]).encode())
    for r in report["results"]:
        digest.update(json.dumps([r["engine"], r["artefact"], r["batch"], r["samples_s"]]).encode())
    report["samples_sha256"] = digest.hexdigest()
    return report


def test_a_report_of_the_first_version_is_read(written):
    old = first_version()
    report = read_report(written(old))
    assert report["schema_version"] == SCHEMA_VERSION == 2
    assert report["roofline"] is None
    for before, after in zip(old["results"], report["results"], strict=True):
        missing = (after["layers"], after["layer_profile"], after["speed_of_light_s"], after["energy"])
        assert missing == ([], None, None, None)
        assert after["arithmetic"] == "fp32"
        assert after["memory_bytes"]["activations"] is None
        assert before["memory_bytes"].items() <= after["memory_bytes"].items()
        assert after["samples_s"] == before["samples_s"]
    assert "Latency" in markdown.markdown_from_report(report)
    assert "Latency" in page.page_from_report(report)


def test_upgrading_changes_nothing_that_it_is_given():
    old = first_version()
    kept = copy.deepcopy(old)
    upgraded = upgrade(old)
    assert old == kept
    assert upgrade(upgraded) == upgraded


def test_an_upgraded_report_can_be_written_and_read(tmp_path):
    upgraded = upgrade(first_version())
    write_report(tmp_path / "r.json", upgraded)
    assert read_report(tmp_path / "r.json") == upgraded


def test_old_and_new_compare(written, command):
    old, new = written(first_version(), "old.json"), written(made_report(1), "new.json")
    code, out, _ = command(edgeline_bench.compare_cli.main, old, new)
    assert code == 0
    assert "of 4 rows, 4 same." in out


@pytest.mark.parametrize(
    ("version", "words"),
    [
        (3, "schema_version 3, this edgeline .* reads 1 to 2: read it with the edgeline that wrote it"),
        ("2", "schema_version '2', this edgeline .* reads 1 to 2: run benchmark-model again"),
        (True, "schema_version True"),
        (None, "schema_version None"),
    ],
)
def test_other_versions_are_refused_by_name(written, version, words):
    with pytest.raises(InputError, match=words):
        read_report(written({**made_report(), "schema_version": version}))


def test_an_edited_report_of_the_first_version_is_refused(written):
    old = first_version()
    old["results"][0]["samples_s"][0] *= 2
    with pytest.raises(InputError, match="was edited"):
        read_report(written(old))


def test_a_new_report_cannot_pass_for_an_old_one(written):
    """The first version's checksum covers less: calling itself old must not get an edited report read."""
    report = made_report()
    report.update(schema_version=1, valid=False)
    with pytest.raises(InputError, match="does not match its checksums"):
        read_report(written(report))


def test_a_round_without_samples_is_refused(written):
    report = first_version()
    report["results"][0]["samples_per_round"][0] = 0
    with pytest.raises(InputError, match="is damaged"):
        read_report(written(report))
