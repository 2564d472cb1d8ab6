"""Reports to recommend from, made by hand: each row's figures are given, its rounds swing by 1 % around its median."""

import copy

from edgeline_bench.checksums import sealed
from edgeline_bench.percentiles import percentile_s
from tests.benchmarks.made import layer, made_report

ROUNDS = 20
MACHINE = made_report()["fingerprint"]
LENET = "lenet-mnist-10k"


def row(engine, artefact, p50_s, batch=1, **changes):
    """A row with that median. Precision follows from the artefact's name; memory and size are 50 MB and 1 MB."""
    medians = [round(p50_s * (1 + 0.01 * (index % 3 - 1)), 12) for index in range(ROUNDS)]
    samples = [median for median in medians for _ in range(4)]
    precision = "int8" if "int8" in artefact else "fp32"
    return {
        "engine": engine, "artefact": artefact, "graph_sha256": "a" * 64, "source": "b" * 64, "precision": precision,
        "arithmetic": precision, "scenario": "single-stream", "batch": batch, "threads": 1, "device": "cpu",
        "latency_s": {"p50": percentile_s(samples, 50), "p90": max(medians), "p99": None},
        "throughput_per_s": batch / p50_s, "round_medians_s": medians, "samples_s": samples,
        "samples_per_round": [4] * ROUNDS, "cold_start_s": {"import": 0.2, "load": 0.02, "first": 0.002},
        "memory_bytes": {"interpreter": 9_000_000, "import": 40_000_000, "load": 45_000_000, "peak": 50_000_000,
                         "weights": 250_000},
        "artefact_bytes": 1_000_000, "accuracy": 0.98, "accuracy_reference": 0.98, "layers": [],
        "layer_profile": None, "speed_of_light_s": None, "energy": None, **changes,
    }  # fmt: skip


def memory(peak, imported=40_000_000):
    """What a row holds of its memory: a peak, and what there was after the engine's import."""
    return {
        "interpreter": 9_000_000,
        "import": imported,
        "load": imported + 1_000_000,
        "peak": peak,
        "weights": 250_000,
    }


def report(*rows, kernel_s=160e-6, created="2026-11-22T12:00:00Z", **changes):
    """A VALID report of those rows, by default of a machine whose reference kernel always takes as long."""
    made = copy.deepcopy(made_report())
    made.update(results=list(rows), created=created, **changes)
    made["reference_kernel"]["round_medians_s"] = [kernel_s] * ROUNDS
    return sealed(made)


def invalid(made, *reasons):
    """The same report, INVALID."""
    return sealed({**made, "valid": False, "invalid_reasons": list(reasons)})


def lit(made_row, light_s, **layers):
    """The row with a speed of light, and layers that take so many seconds, each (seconds, what bounds it)."""
    records = [
        {**layer(f"Conv {label}", 20.0, 1.0, bound), "label": label, "time_s": time_s, "slowest": "weights"}
        for label, (time_s, bound) in layers.items()
    ]
    return {**made_row, "speed_of_light_s": {"warm": light_s, "cold": 2 * light_s}, "layers": records}


ROOFLINE = {"method": "c-probe", "ceilings": {"flops": {}, "bandwidth": {}}}


def lenet_rows():
    """Five forms at batch 1 and two of them at batch 8.

    eager 120 us, ONNX Runtime 30 us, C 10 us, and in int8 20 us and 5 us, the last of which loses 0.015 of accuracy.
    """
    return [
        row("eager", LENET, 120e-6, memory_bytes=memory(500_000_000, 400_000_000), artefact_bytes=250_000),
        row("onnxruntime", f"{LENET}.fp32.onnx", 30e-6, memory_bytes=memory(70_000_000, 60_000_000),
            artefact_bytes=260_000),
        row("onnxruntime", f"{LENET}.int8.onnx", 20e-6, memory_bytes=memory(72_000_000, 60_000_000),
            artefact_bytes=140_000, accuracy=0.975),
        row("native", f"{LENET}.fp32.c", 10e-6, memory_bytes=memory(40_000_000, 35_000_000), artefact_bytes=1_600_000),
        row("native", f"{LENET}.int8.c", 5e-6, memory_bytes=memory(41_000_000, 35_000_000), artefact_bytes=870_000,
            accuracy=0.965),
        row("onnxruntime", f"{LENET}.fp32.onnx", 60e-6, 8, memory_bytes=memory(75_000_000, 60_000_000),
            artefact_bytes=260_000),
        row("native", f"{LENET}.fp32.c", 63e-6, 8, memory_bytes=memory(42_000_000, 35_000_000),
            artefact_bytes=1_600_000),
    ]  # fmt: skip
