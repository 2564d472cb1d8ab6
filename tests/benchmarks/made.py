"""Reports made by hand, for the tests of all that reads one."""

import copy

import numpy as np

from edgeline_bench.checksums import sealed


def made_report(seed=0, factor=1.0, rounds=20):
    """A report of two engines at two batch sizes, as a machine with 1 % noise and a common drift would give it."""
    random = np.random.default_rng(seed)
    speed = 1 + 0.1 * np.sin(np.arange(rounds) / 3)
    results = []
    for engine, name, base in (
        ("eager", "lenet-mnist-10k", 120e-6),
        ("onnxruntime", "lenet-mnist-10k.fp32.onnx", 30e-6),
    ):
        for batch in (1, 8):
            slower = factor if engine == "onnxruntime" else 1.0
            medians = [
                round(float(m), 9) for m in base * batch * slower * speed * (1 + 0.01 * random.standard_normal(rounds))
            ]
            samples = [s for m in medians for s in [m] * 41]
            results.append(
                {
                    "engine": engine, "artefact": name, "graph_sha256": "a" * 64, "source": "b" * 64,
                    "precision": "fp32", "arithmetic": "fp32",
                    "scenario": "single-stream", "batch": batch, "threads": 1, "device": "cpu",
                    "latency_s": {"p50": sorted(samples)[len(samples) // 2 - 1], "p90": max(medians), "p99": None},
                    "throughput_per_s": batch / float(np.mean(medians)), "calls": len(samples),
                    "round_medians_s": medians, "samples_s": samples, "samples_per_round": [41] * rounds,
                    "cold_start_s": {"import": 0.2, "load": 0.02, "first": 0.002, "total": 0.222},
                    "memory_bytes": {"import": 40_000_000, "load": 50_000_000, "peak": 60_000_000},
                    "artefact_bytes": 260_000, "accuracy": 0.98, "layers": [],
                    "layer_profile": None, "speed_of_light_s": None, "energy": None,
                }
            )  # fmt: skip
    kernel = [float(160e-6 * s) for s in speed]
    return sealed({
        "schema_version": 2, "valid": True, "invalid_reasons": [], "created": "2026-11-22T12:00:00Z",
        "protocol": {"mode": "quick", "threads": 1, "pinned": [1], "rounds": rounds, "slot_s": 0.5, "device": "cpu",
                     "batches": [1, 8], "clock_overhead_s": 6e-8, "foreign_load": 0.01, "elapsed_s": 60.0},
        "fingerprint": {"cpu": "A CPU", "machine": "x86_64", "cores": 2, "usable_cores": 2, "isa": ["avx2"],
                        "memory_bytes": 2**34, "gpu": None, "governor": None, "load_average": 0.1, "os": "Linux 6",
                        "python": "3.11.7", "versions": {"torch": "2.14.1"}},
        "reference_kernel": {"name": "k", "round_medians_s": kernel},
        "roofline": None, "results": results,
    })  # fmt: skip


def changed(report, *path, value):
    """The report with one thing in it changed, its checksums made to fit."""
    report = copy.deepcopy(report)
    target = report
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value
    return sealed(report)


def rounds_scaled(report, factor, rows=None):
    """The report with the times of all rows, or of those whose numbers are given, multiplied: samples and medians."""
    report = copy.deepcopy(report)
    for index, result in enumerate(report["results"]):
        if rows is not None and index not in rows:
            continue
        result["samples_s"] = [s * factor for s in result["samples_s"]]
        result["round_medians_s"] = [m * factor for m in result["round_medians_s"]]
        result["latency_s"]["p50"] *= factor
    return sealed(report)


def with_roofline(report, scale=1.0):
    """The report with ceilings and two layers in each row, one bound by compute, one by memory, and one too short."""
    report = copy.deepcopy(report)
    report["roofline"] = {
        "method": "c-probe", "compiler": "gcc 12", "instruction_set": "avx512",
        "ceilings": {
            "flops": {"fp32": {"threads_1": 1e11 * scale, "threads_2": 2e11 * scale},
                      "int8": {"threads_1": 4e11 * scale}},
            "bandwidth": {"L1": 2e11 * scale, "L2": 1e11 * scale, "L3": 4e10 * scale, "DRAM": 2e10 * scale},
            "bandwidth_threads": {},
        },
        "levels_bytes": {}, "sweep": {}, "stability": {},
    }  # fmt: skip
    for result in report["results"]:
        result["layers"] = [
            layer("Conv+Sigmoid conv1", 20.0, 5e10 * scale, "compute"),
            layer("Gemm fc1", 0.5, 8e9 * scale, "memory"),
            {**layer("Softmax", 1.0, 1e9, "memory"), "placed": False},
        ]
    return sealed(report)


def layer(name, intensity, attained, bound):
    return {
        "nodes": [name], "operators": [name.split()[0]], "name": name, "flops": 1_000_000,
        "bytes": int(1_000_000 / intensity), "bytes_weights": 1, "bytes_activations": 1, "precision": "fp32",
        "time_s": 1e6 / attained, "share": 0.5, "intensity": intensity, "attained_flops_per_s": attained,
        "roof_s": 1e-6, "roof_flops_per_s": 1e11, "efficiency": 0.5, "bound": bound,
        "level": {"weights": "L2", "activations": "L1"}, "exempt": None, "placed": True,
    }  # fmt: skip
