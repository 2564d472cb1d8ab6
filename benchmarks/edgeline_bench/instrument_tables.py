"""What the instrument itself found, as tables: ceilings, layers, speed of light, memory and energy.

Beside edgeline_bench.tables, for the page and the Markdown. What was not measured gives a table without rows.
"""

from __future__ import annotations

from typing import Any

from edgeline_bench import units
from edgeline_bench.plots import quantities
from edgeline_bench.plots.series import Result, Styles, label_of, styles_of
from edgeline_bench.report import Report
from edgeline_bench.tables import Table, main_results


def ceilings_table(report: Report) -> Table:
    """Every ceiling by thread count, and the same figure measured before and after the run."""
    roofline: dict[str, Any] = report.get("roofline") or {}
    ceilings = roofline.get("ceilings") or {"flops": {}, "bandwidth": {}}
    by_threads = ceilings.get("bandwidth_threads") or {
        f"threads_{report['protocol']['threads']}": ceilings["bandwidth"]
    }
    keys = sorted({key for rates in (*ceilings["flops"].values(), by_threads) for key in rates}, key=_threads)
    stability = roofline.get("stability") or {}
    cells = [
        (
            f"{p} arithmetic",
            *(quantities.operations_rate(rates.get(key), p) for key in keys),
            *_stability(stability.get(p), p),
        )
        for p, rates in ceilings["flops"].items()
    ]
    cells += [
        (f"read from {level}", *(quantities.bytes_rate((by_threads.get(key) or {}).get(level)) for key in keys),
         *_stability(stability.get(level), None))
        for level in ceilings["bandwidth"]
    ]  # fmt: skip
    titles = ["measured"] if roofline.get("method") == "cuda-probe" else [_threads_title(key) for key in keys]
    heading = ("ceiling", *titles, "before the run", "after", "apart")
    return Table("Ceilings of this machine", heading, tuple(cells), 1, _method(roofline))


def layers_table(rows: list[Result], styles: Styles, title: str) -> Table:
    """Every layer of some rows under its roof."""
    heading = ("engine", "layer", "in the graph", "bound by", "batch", "operations", "bytes", "ops/byte",
               "time", "share", "attained", "roof", "efficiency", "placed")  # fmt: skip
    cells = tuple(
        (
            styles.name(row), label_of(layer), layer["name"], layer["bound"] + _levels(layer), str(row["batch"]),
            quantities.count(layer["flops"]), quantities.count(layer["bytes"]), quantities.ratio(layer["intensity"]),
            units.seconds(layer["time_s"]), f"{layer['share']:.1%}",
            quantities.operations_rate(layer["attained_flops_per_s"], layer["precision"]),
            quantities.operations_rate(layer["roof_flops_per_s"], layer["precision"]),
            quantities.percent(layer["efficiency"]), layer.get("exempt") or ("yes" if layer.get("placed") else "no"),
        )
        for row in rows
        for layer in row["layers"]
    )  # fmt: skip
    return Table(title, heading, cells, 4)


def layers_tables(report: Report) -> list[Table]:
    """A table per network, of its largest batch size with layers."""
    styles = styles_of(report)
    tables = []
    for source, network in styles.networks.items():
        rows = [row for row in main_results(report) if row["source"] == source and row["layers"]]
        largest = max((row["batch"] for row in rows), default=0)
        if rows:
            chosen = [row for row in rows if row["batch"] == largest]
            tables.append(layers_table(chosen, styles, f"Layers of {network} at batch {largest}"))
    return tables


def light_table(report: Report) -> Table:
    """Each row's median beside the least time that the roofline allows the network."""
    heading = ("engine", "artefact", "batch", "p50", "warm", "p50 / warm", "cold", "p50 / cold")
    cells = []
    for row in main_results(report):
        light = row.get("speed_of_light_s")
        if light and row["scenario"] in ("single-stream", "offline"):  # others' latencies are of several calls, or wait
            p50 = row["latency_s"]["p50"]
            cells.append(
                (row["engine"], row["artefact"], str(row["batch"]), units.seconds(p50),
                 units.seconds(light.get("warm")), _times(p50, light.get("warm")),
                 units.seconds(light.get("cold")), _times(p50, light.get("cold")))
            )  # fmt: skip
    note = (
        "What a perfect engine would take: the sum over fused groups of the longer of operations / peak and "
        "bytes / bandwidth. Warm: weights and arena stay in the smallest memory that holds them. Cold: all is in DRAM."
    )
    return Table("Speed of light", heading, tuple(cells), 2, note)


def memory_table(report: Report) -> Table:
    """What the resident memory is made of, what the network itself needs, and energy where it could be read."""
    rows = main_results(report)
    titles = {"weights": "weights", "activations": "activations", "peak": "peak", "anonymous": "anonymous",
              "file_backed": "file-backed", "device": "on the GPU"}  # fmt: skip
    if not any(row["memory_bytes"].get("device") for row in rows):
        del titles["device"]
    heading = ("engine", "artefact", "batch", *titles.values(), "energy / inference")
    cells = tuple(
        (row["engine"], row["artefact"], str(row["batch"]),
         *(units.megabytes(row["memory_bytes"].get(key)) for key in titles), _energy(row))
        for row in rows
    )  # fmt: skip
    reasons = dict.fromkeys(
        (row.get("energy") or {}).get("why") for row in rows if not _joules(row) and row.get("energy")
    )
    energy = [f"Energy: {', '.join(reason for reason in reasons if reason)}."] if any(reasons) else []
    note = (
        "Weights and activations are what the network needs by its graph; the rest of peak is libraries and workspace."
    )
    return Table("Memory and energy", heading, cells, 2, "\n".join([note, *energy]))


def _joules(row: Result) -> float | None:
    value = (row.get("energy") or {}).get("joules_per_inference")
    return None if value is None else float(value)


def _energy(row: Result) -> str:
    joules = _joules(row)
    return "-" if joules is None else f"{joules * 1e3:.3g} mJ"


def _method(roofline: dict[str, Any]) -> str:
    if not roofline:
        return "Not measured in this report."
    facts = [roofline.get("method"), roofline.get("compiler"), roofline.get("instruction_set")]
    lines = [f"Measured by {', '.join(dict.fromkeys(str(fact) for fact in facts if fact))}."]
    if roofline.get("method") == "numpy":
        lines.append("These are what numpy's BLAS reached, as the C probe did not run: a C kernel may reach more.")
    return "\n".join([*lines, *roofline.get("notes", [])])


def _stability(pair: list[float] | None, precision: str | None) -> tuple[str, str, str]:
    if not pair:
        return "-", "-", "-"
    before, after = (quantities.operations_rate(v, precision) if precision else quantities.bytes_rate(v) for v in pair)
    return before, after, f"{abs(pair[1] / pair[0] - 1):.1%}"


def _levels(layer: dict[str, Any]) -> str:
    levels = list(dict.fromkeys(where for where in (layer.get("level") or {}).values() if where))
    return f" ({', '.join(levels)})" if levels and layer["bound"] == "memory" else ""


def _times(time_s: float, light_s: float | None) -> str:
    return "-" if not light_s else f"{time_s / light_s:.2f}x"


def _threads(key: str) -> tuple[int, str]:
    count = key.removeprefix("threads_")
    return (int(count) if count.isdigit() else 0, key)


def _threads_title(key: str) -> str:
    count = key.removeprefix("threads_")
    return units.counted(int(count), "thread") if count.isdigit() else key
