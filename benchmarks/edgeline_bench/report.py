"""report.json: the record of a run, written with checksums (edgeline_bench.checksums), and read with suspicion.

A report is a plain dictionary in the shape of SCHEMAS' report.json: what people and scripts read is what we read.
"""

from __future__ import annotations

import datetime
import gzip
import itertools
import json
import statistics
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgeline.errors import InputError
from edgeline.files import write_atomically
from edgeline.version import __version__
from edgeline_bench import energy, procfs
from edgeline_bench.checksums import report_sha256, samples_sha256, sealed
from edgeline_bench.engines.reference import NAME as REFERENCE_NAME
from edgeline_bench.findings import findings_of, layer_reasons
from edgeline_bench.percentiles import percentile_name, percentile_s
from edgeline_bench.report_versions import SCHEMA_VERSION, is_known, upgrade
from edgeline_bench.roofline.ceilings import Ceilings
from edgeline_bench.rounds import Measured, Run
from edgeline_bench.words import answers_of

Report = dict[str, Any]
_PERCENTS = (50, 90, 95, 99, 99.9)

# What readers rely on, by section; "" is the report itself.
_KEYS = {
    "": ("valid", "invalid_reasons", "created"),
    "protocol": ("mode", "threads", "pinned", "device", "rounds", "slot_s", "clock_overhead_s", "foreign_load"),
    "fingerprint": ("cpu", "machine", "cores", "usable_cores", "isa", "memory_bytes", "gpu", "governor", "load_average",
                    "os", "python", "versions"),
    "reference_kernel": ("name", "round_medians_s"),
    "results": ("engine", "artefact", "graph_sha256", "source", "precision", "scenario", "batch", "threads",
                "latency_s", "throughput_per_s", "samples_s", "samples_per_round", "round_medians_s", "cold_start_s",
                "memory_bytes", "artefact_bytes", "accuracy"),
}  # fmt: skip


def report_from_run(
    run: Run,
    protocol: Mapping[str, Any],
    fingerprint: Mapping[str, Any],
    ceilings: Ceilings | None,
    invalid_reasons: list[str],
    left_out: Sequence[Mapping[str, str]] = (),
) -> Report:
    """Put a run into the shape of report.json; `ceilings` are of the machine that it ran on, None when not measured.

    `left_out` are forms that were wanted and not measured: `format`, `precision` and `why`.
    """
    interpreter = procfs.memory_of_interpreter()
    findings = findings_of(run.measured, ceilings)
    results = [_result(measured, found, interpreter) for measured, found in zip(run.measured, findings, strict=True)]
    reasons = [*invalid_reasons, *layer_reasons(results)]
    report = {
        "schema_version": SCHEMA_VERSION,
        "valid": not reasons,
        "invalid_reasons": reasons,
        "created": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "protocol": {
            **protocol,
            "elapsed_s": round(run.elapsed_s, 3),
            "foreign_load": run.foreign_load,
            "clock_overhead_s": run.reference.ready["clock_overhead_s"],
        },
        "fingerprint": dict(fingerprint),
        "reference_kernel": {"name": REFERENCE_NAME, "round_medians_s": run.reference.round_medians_s},
        "roofline": ceilings and ceilings.to_record(),
        "words": answers_of(results, ceilings),
        "left_out": [
            *left_out,
            *({"format": p.engine, "precision": p.precision, "why": why} for p, why in run.left_out),
        ],
        "results": results,
    }
    return sealed(report)


def _result(measured: Measured, found: Mapping[str, Any], interpreter: procfs.Memory | None) -> dict[str, Any]:
    point = measured.point
    samples = [sample for samples in measured.rounds_s for sample in samples]
    ready = measured.ready
    memory = {
        "interpreter": interpreter and interpreter.resident,
        **ready["memory_bytes"],
        "stages": {"interpreter": interpreter and asdict(interpreter), **ready["memory_bytes"]["stages"]},
        **(measured.memory_bytes or dict.fromkeys(("peak", "anonymous", "file_backed"))),
        **found["memory"],
    }
    return {
        "engine": point.engine,
        "artefact": point.name,
        "graph_sha256": point.graph_sha256,
        "source": point.source_key,
        "precision": point.precision,
        "arithmetic": point.arithmetic,
        "scenario": point.scenario,
        "batch": point.batch,
        "threads": point.threads,
        "device": point.device,
        "latency_s": {percentile_name(percent): percentile_s(samples, percent) for percent in _PERCENTS},
        "clock_overhead_s": statistics.median(measured.clock_overheads_s),
        "throughput_per_s": measured.samples / measured.elapsed_s,
        "queries": measured.queries,
        "server": measured.server and {**measured.server, "held": _held(measured.server, samples)},
        "mlperf": measured.mlperf,
        "busy_threads": measured.busy_threads,
        "round_medians_s": measured.round_medians_s,
        "samples_s": samples,
        "samples_per_round": [len(samples) for samples in measured.rounds_s],
        "cold_start_s": ready["cold_start_s"],
        "memory_bytes": {**memory, "workspace": _workspace_bytes(memory)},
        "artefact_bytes": point.artefact_bytes,
        "deployed_bytes": point.deployed_bytes,
        "engine_bytes": point.engine_bytes,
        "accuracy": point.accuracy,
        "accuracy_reference": point.accuracy_reference,
        "layers": found["layers"],
        "layer_profile": found["layer_profile"],
        "speed_of_light_s": found["speed_of_light_s"],
        "work": found["work"],
        "energy": _energy(measured),
        "gpu_stages": measured.gpu_stages
        and {
            stage: {percentile_name(percent): percentile_s(times, percent) for percent in (50, 90, 99)}
            for stage, times in measured.gpu_stages.items()
        },
    }


def _held(server: Mapping[str, Any], samples_s: list[float]) -> bool | None:
    """Say whether p99 over all rounds stayed within the bound; None without a bound, or from too few queries."""
    p99, bound_s = percentile_s(samples_s, 99), server["latency_bound_s"]
    return None if p99 is None or bound_s is None else p99 <= bound_s


def _workspace_bytes(memory: Mapping[str, Any]) -> int | None:
    """Return what the engine took from import to the first answer beyond the graph's weights and activations."""
    known = [memory[key] for key in ("first", "import", "weights", "activations")]
    if None in known:
        return None
    first, imported, weights, activations = known
    return max(0, int(first - imported - weights - activations))


def _energy(measured: Measured) -> dict[str, Any]:
    """Return the median over rounds of the energy of one sample, idle power of the package or GPU included."""
    if not measured.joules_per_call:
        return {"source": None, "joules_per_inference": None, "why": energy.NOT_READABLE}
    joules = statistics.median(measured.joules_per_call) / measured.point.batch
    return {"source": measured.ready["meter"], "joules_per_inference": joules, "why": None}


def write_report(path: Path, report: Report) -> None:
    """Write report.json, whole or not at all. Raises OSError."""
    write_atomically(path, json.dumps(report) + "\n")


def read_report(path: Path) -> Report:
    """Read and check a report of any version so far, also one in .json.gz, and return it as one of SCHEMA_VERSION.

    Raises InputError when it is missing, damaged, edited or of a version that is not known here.
    """
    try:
        content = path.read_bytes()
        report = json.loads(gzip.decompress(content) if path.suffix == ".gz" else content)
    except FileNotFoundError:
        raise InputError(f"there is no report {path}; benchmark-model ARTEFACT --out {path} writes one") from None
    except (ValueError, EOFError, zlib.error, gzip.BadGzipFile):
        raise InputError(f"{path} is no report: it is not JSON, or not all of it is there") from None
    except OSError as error:
        raise InputError(f"{path} is no report: {error.strerror}") from None
    if not isinstance(report, dict) or "schema_version" not in report:
        raise InputError(f"{path} is no report of benchmark-model: it has no schema_version")
    _check_version(path, report["schema_version"])
    try:
        whole = _is_whole(report)
        report = upgrade(report)
        _check_shape(report)
        _check_derived(path, report)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(f"{path} is damaged ({error}); run benchmark-model again") from None
    if not whole:
        raise InputError(f"{path} is damaged or was edited: it does not match its checksums; measure again")
    return report


def _check_version(path: Path, version: object) -> None:
    if is_known(version):
        return
    known = f"this edgeline ({__version__}) reads 1 to {SCHEMA_VERSION}"
    newer = isinstance(version, int) and version > SCHEMA_VERSION
    way_on = "read it with the edgeline that wrote it" if newer else "run benchmark-model again"
    raise InputError(f"{path} has schema_version {version!r}, {known}: {way_on}")


def _is_whole(report: Report) -> bool:
    """Say whether the report matches the checksums that its version has."""
    samples = samples_sha256(report["results"], report["reference_kernel"]["round_medians_s"])
    if samples != report.get("samples_sha256"):
        return False
    if report["schema_version"] == 1:
        return "report_sha256" not in report  # one that calls itself old to have less of it checked
    return report_sha256(report) == report.get("report_sha256")


def _check_shape(report: Report) -> None:
    """Raise KeyError, TypeError or ValueError unless all is there that tables, page and comparison read."""
    for section, keys in _KEYS.items():
        for record in report["results"] if section == "results" else [report[section] if section else report]:
            missing = [key for key in keys if key not in record]
            if missing:
                raise KeyError(missing[0])
    reference = report["reference_kernel"]["round_medians_s"]
    if not report["results"] or not reference or not min(reference) > 0:
        raise ValueError("it has no results, or no reference times above 0")
    for result in report["results"]:
        if not len(result["samples_per_round"]) == len(result["round_medians_s"]) == len(reference):
            raise ValueError("its rounds and those of its reference kernel differ in number")
        if not min(result["samples_s"]) > 0 or not min(result["samples_per_round"]) > 0:
            raise ValueError("a sample is not above 0, or a round has none")


def _check_derived(path: Path, report: Report) -> None:
    """The verdicts rest on the rounds' medians, the tables on the percentiles: both must follow from the samples."""
    for result in report["results"]:
        ends = list(itertools.accumulate(result["samples_per_round"], initial=0))
        rounds = [result["samples_s"][start:end] for start, end in itertools.pairwise(ends)]
        medians = [statistics.median(samples) if samples else None for samples in rounds]
        p50 = percentile_s(result["samples_s"], 50)
        if medians != result["round_medians_s"] or p50 != result["latency_s"]["p50"]:
            raise InputError(
                f"{path} was edited: its medians do not follow from its samples; run benchmark-model again"
            )
