"""A whole report of schema 2, made up: LeNet and AlexNet layer by layer, at batch 1, 8 and 64, under made-up ceilings.

Operations and bytes follow from the networks' shapes; times are the roof's over an efficiency, so what a plot or a
table should show of them is known by arithmetic.
"""

from __future__ import annotations

import statistics

import numpy as np

from edgeline_bench.report import samples_sha256

FLOPS = {"fp32": 115e9, "bf16": 230e9, "int8": 460e9}  # a thread
BANDWIDTH = {"L1": 400e9, "L2": 95e9, "L3": 45e9, "DRAM": 21e9}  # a thread
LEVELS = {"L1": 49152, "L2": 1 << 20, "L3": 32 << 20}
ROUNDS = 20
CALLS = 40  # a round

# name, operator, activation, multiply-accumulates, weights, inputs, outputs (elements, of one sample)
LENET = (
    ("conv1", "Conv", "Sigmoid", 117_600, 156, 784, 4_704),
    ("pool1", "AveragePool", "", 0, 0, 4_704, 1_176),
    ("conv2", "Conv", "Sigmoid", 240_000, 2_416, 1_176, 1_600),
    ("pool2", "AveragePool", "", 0, 0, 1_600, 400),
    ("fc1", "Gemm", "Sigmoid", 48_000, 48_120, 400, 120),
    ("fc2", "Gemm", "Sigmoid", 10_080, 10_164, 120, 84),
    ("fc3", "Gemm", "", 840, 850, 84, 10),
)
ALEXNET = (
    ("conv1", "Conv", "Relu", 33_872_256, 11_712, 50_176, 279_936),
    ("pool1", "MaxPool", "", 0, 0, 279_936, 64_896),
    ("conv2", "Conv", "Relu", 415_334_400, 614_656, 64_896, 173_056),
    ("pool2", "MaxPool", "", 0, 0, 173_056, 36_864),
    ("conv3", "Conv", "Relu", 127_401_984, 885_120, 36_864, 55_296),
    ("conv4", "Conv", "Relu", 191_102_976, 1_327_488, 55_296, 55_296),
    ("conv5", "Conv", "Relu", 127_401_984, 884_992, 55_296, 36_864),
    ("pool5", "MaxPool", "", 0, 0, 36_864, 6_400),
    ("fc1", "Gemm", "Relu", 26_214_400, 26_218_496, 6_400, 4_096),
    ("fc2", "Gemm", "Relu", 16_777_216, 16_781_312, 4_096, 4_096),
    ("fc3", "Gemm", "", 40_960, 40_970, 4_096, 10),
)
NETWORKS = {"lenet-mnist-10k": LENET, "alexnet-mnist-10k": ALEXNET}

# engine, form, precision, whether it fuses activations, efficiency of convolutions and of others, (import, load, first)
EAGER = ("eager", "", "fp32", False, 0.45, 0.30, (2.2, 0.05, 0.03))
ONNXRUNTIME = ("onnxruntime", "fp32.onnx", "fp32", True, 0.80, 0.62, (0.15, 0.04, 0.01))
ONNXRUNTIME_INT8 = ("onnxruntime", "int8.onnx", "int8", True, 0.55, 0.50, (0.15, 0.03, 0.01))
OPENVINO = ("openvino", "bf16-with-a-rather-long-name.onnx", "bf16", True, 0.70, 0.65, (0.25, 0.2, 0.02))
NATIVE = ("native", "fp32.c", "fp32", True, 0.72, 0.81, (0.001, 0.002, 0.001))
COMPILE = ("torch-compile", "fp32", "fp32", True, 0.50, 0.35, (2.3, 4.1, 0.4))
TWO_ENGINES = (EAGER, ONNXRUNTIME, ONNXRUNTIME_INT8)
FIVE_ENGINES = (*TWO_ENGINES, OPENVINO, NATIVE, COMPILE)


def full_report(engines=TWO_ENGINES, networks=tuple(NETWORKS), batches=(1, 8, 64), threads=2):
    """A valid report with a roofline, layers, memory by stage, words, and a server and an offline row."""
    random = np.random.default_rng(0)
    results = [
        _result(network, engine, batch, threads, random)
        for network in networks
        for engine in engines
        for batch in batches
    ]
    results += _scenario_rows(results, batches[0])
    kernel = [float(v) for v in 160e-6 * (1 + 0.01 * random.standard_normal(ROUNDS))]
    return {
        "schema_version": 2, "valid": True, "invalid_reasons": [], "created": "2026-11-22T12:00:00Z",
        "protocol": {"mode": "quick", "threads": threads, "pinned": list(range(threads)), "rounds": ROUNDS,
                     "slot_s": 0.5, "device": "cpu", "batches": list(batches), "clock_overhead_s": 6e-8,
                     "foreign_load": 0.01, "elapsed_s": 240.0},
        "fingerprint": {"cpu": "A CPU of eight cores, 3.2 GHz", "machine": "x86_64", "cores": 2, "usable_cores": 2,
                        "isa": ["avx2", "avx512f", "avx512_vnni", "avx512_bf16"], "memory_bytes": 24 * 2**30,
                        "gpu": None, "governor": None, "load_average": 0.1, "os": "Linux 6.1", "python": "3.11.7",
                        "versions": {"torch": "2.14.1", "onnxruntime": "1.31.1", "numpy": "2.4.0"}},
        "reference_kernel": {"name": "matmul 192, tanh 16384, loop 2000", "round_medians_s": kernel},
        "roofline": roofline(threads),
        "words": [
            {"question": "What dominates AlexNet's memory?",
             "answer": "fc1: its 26,218,496 weights are 56 % of all; with fc2 it is 92 %."},
            {"question": "What dominates AlexNet's computation?",
             "answer": "conv2 does 44 % of all multiply-accumulates, the five convolutions together 95 %."},
            {"question": "What bounds each layer?",
             "answer": "At batch 1 the fully connected layers wait for DRAM and the convolutions for arithmetic; "
                       "at batch 64 only pooling waits for memory."},
            {"question": "What does int8 still gain?",
             "answer": "A quarter of the bytes, and four times the operations a second where the engine uses them."},
        ],
        "results": results, "samples_sha256": samples_sha256(results, kernel),
    }  # fmt: skip


def roofline(threads=2):
    """The ceilings that FLOPS and BANDWIDTH give."""
    counts = sorted({1, threads})
    sweep = [1 << k for k in range(13, 29)]
    return {
        "method": "c-probe", "compiler": "gcc 12.2.0 -O3 -march=native", "instruction_set": "avx512",
        "ceilings": {
            "flops": {p: {f"threads_{n}": v * n for n in counts} for p, v in FLOPS.items()},
            "bandwidth": {level: v * threads for level, v in BANDWIDTH.items()},
            "bandwidth_threads": {f"threads_{n}": {k: v * n for k, v in BANDWIDTH.items()} for n in counts},
        },
        "levels_bytes": LEVELS,
        "sweep": {f"threads_{n}": [[size, BANDWIDTH[level_of(size)] * n] for size in sweep] for n in counts},
        "stability": {"fp32": [FLOPS["fp32"], FLOPS["fp32"] * 0.99], "DRAM": [BANDWIDTH["DRAM"], 20.2e9]},
    }  # fmt: skip


def level_of(size_bytes):
    """The smallest level that holds so many bytes."""
    return next((level for level, capacity in LEVELS.items() if size_bytes <= capacity), "DRAM")


def layers_of(network, engine, batch, threads):
    """A record per layer as an engine runs it: activations are layers of their own where it does not fuse them."""
    _, _, precision, fuses, convolutions, others, _ = engine
    width = {"fp32": 4, "bf16": 2, "int8": 1}[precision]
    records = []
    for name, operator, activation, macs, weights, inputs, outputs in NETWORKS[network]:
        own = [(name, operator, macs, weights, inputs, outputs)]
        if activation and not fuses:
            own.append((f"{name}_{activation.lower()}", activation, 0, 0, outputs, outputs))
        for title, op, count, kept, taken, given in own:
            operators = [op, activation] if activation and fuses else [op]
            nodes = [title, f"{title}_{activation.lower()}"] if len(operators) > 1 else [title]
            flops = batch * (2 * count or given)
            moved = (width * kept, width * batch * (taken + given))
            level = level_of(sum(moved))
            by_compute = flops / (FLOPS[precision] * threads)
            by_memory = sum(moved) / (BANDWIDTH[level] * threads)
            roof_s = max(by_compute, by_memory)
            efficiency = convolutions if op == "Conv" else others
            records.append(
                {
                    "nodes": nodes, "operators": operators, "name": f"{'+'.join(operators)} {title}",
                    "flops": flops, "bytes": sum(moved), "bytes_weights": moved[0], "bytes_activations": moved[1],
                    "precision": precision, "time_s": roof_s / efficiency, "share": 0.0,
                    "intensity": flops / sum(moved), "attained_flops_per_s": flops * efficiency / roof_s,
                    "roof_s": roof_s, "roof_flops_per_s": flops / roof_s, "efficiency": efficiency,
                    "bound": "compute" if by_compute > by_memory else "memory",
                    "level": {"weights": level, "activations": level},
                    "exempt": "winograd" if (title, engine[0]) == ("conv3", "openvino") else None,
                    "placed": roof_s / efficiency >= 20e-6 or batch >= 64,
                }
            )  # fmt: skip
    total = sum(record["time_s"] for record in records)
    for record in records:
        record["share"] = record["time_s"] / total
    return records


def _result(network, engine, batch, threads, random):
    name, form, precision, _, _, _, (imported, loaded, first) = engine
    layers = layers_of(network, engine, batch, threads)
    latency = sum(layer["time_s"] for layer in layers) + 4e-6
    medians = [round(float(latency * (1 + 0.01 * v)), 9) for v in random.standard_normal(ROUNDS)]
    samples = [round(float(m * (1 + 0.02 * random.gamma(1.5))), 9) for m in medians for _ in range(CALLS)]
    medians = [statistics.median(samples[i * CALLS : (i + 1) * CALLS]) for i in range(ROUNDS)]
    in_order = sorted(samples)
    weights = sum(layer["bytes_weights"] for layer in layers)
    activations = max(layer["bytes_activations"] for layer in layers)
    start = 430_000_000 if "torch" in name or name == "eager" else 45_000_000
    roof = sum(layer["roof_s"] for layer in layers)
    return {
        "engine": name, "artefact": f"{network}.{form}" if form else network, "graph_sha256": "a" * 64,
        "source": network[0] * 64, "precision": precision, "arithmetic": precision, "scenario": "single-stream",
        "batch": batch, "threads": threads, "device": "cpu",
        "latency_s": {f"p{p}": in_order[int(len(in_order) * p / 100) - 1] for p in (50, 90, 99)},
        "throughput_per_s": batch / latency, "calls": len(samples), "round_medians_s": medians, "samples_s": samples,
        "samples_per_round": [CALLS] * ROUNDS,
        "cold_start_s": {"import": imported, "load": loaded, "first": first + latency,
                         "total": imported + loaded + first + latency},
        "memory_bytes": {"interpreter": 11_000_000, "import": start, "load": start + 2 * weights,
                         "first": start + 2 * weights + activations, "peak": start + 2 * weights + 3 * activations,
                         "anonymous": start // 3 + weights, "file_backed": start // 2, "weights": weights,
                         "activations": activations},
        "artefact_bytes": weights + 3_000, "accuracy": 0.98, "layers": layers,
        "layer_profile": {"method": f"{name}'s own profile", "scale": 0.87, "calls": 50},
        "speed_of_light_s": {"warm": roof, "cold": roof * 1.4},
        "work": {key: sum(layer[key] for layer in layers) for key in ("flops", "bytes")},
        "deployed_bytes": weights, "engine_bytes": 0 if name == "native" else start // 4,
        "energy": {"source": None, "joules_per_inference": None, "why": "not readable here"},
    }  # fmt: skip


def _scenario_rows(results, batch):
    """A server and an offline row for each engine of the first network."""
    rows = []
    for result in [r for r in results if r["batch"] == batch and r["source"] == results[0]["source"]]:
        for scenario in ("server", "offline"):
            rows.append({**result, "scenario": scenario, "layers": [], "layer_profile": None, "speed_of_light_s": None})
    return rows
