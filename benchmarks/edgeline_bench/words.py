"""The report in words: what dominates memory and computation, what bounds each layer, what batch and int8 change.

Every sentence is made from the report's own figures; where a figure was not measured, its sentence is not there. It
knows no network by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgeline_bench import units
from edgeline_bench.roofline.ceilings import Ceilings

Result = Mapping[str, Any]
Answer = dict[str, str]

_NAMED = 3  # layers that a sentence names
_MUCH = 0.9  # a share from which on "nearly all" is said


def answers_of(results: Sequence[Result], ceilings: Ceilings | None) -> list[Answer]:
    """Return question and answer pairs on every network of a report, in reading order; `results` with their layers."""
    answers: list[Answer] = []
    if ceilings is not None and ceilings.method == "numpy":
        text = (
            "With care: they are what numpy reached, and the machine can do more, so all is further from it than said."
        )
        answers.append({"question": "How far can the ceilings of this report be trusted?", "answer": text})
    for network in _networks(results):
        name = _network_name(network)
        pairs = [
            (f"What dominates the memory of {name}?", _memory_text(network)),
            (f"What dominates the computation of {name}?", _computation_text(network)),
            (f"What bounds each layer of {name}?", _bounds_text(network)),
            (f"How far is {name} from what this machine could do?", _headroom_text(network)),
            (f"What does the batch size change for {name}?", _batch_text(network)),
            (f"What can int8 still gain for {name}?", _int8_text(network, ceilings)),
        ]
        answers += [{"question": question, "answer": text} for question, text in pairs if text]
    if missing := _missing_text(results):
        answers.append({"question": "Which rows have no time per layer, and why?", "answer": missing})
    return answers


def _missing_text(results: Sequence[Result]) -> str:
    rows: dict[str, list[str]] = {}
    for r in results:
        if why := (r["layer_profile"] or {}).get("why"):
            rows.setdefault(why, []).append(f"{r['engine']} {r['artefact']}, batch {r['batch']}")
    return "\n".join(f"{'; '.join(dict.fromkeys(names))}: {why}." for why, names in rows.items())


def _networks(results: Sequence[Result]) -> list[list[Result]]:
    """Group the single-stream rows by the network that they are forms of."""
    groups: dict[str, list[Result]] = {}
    for result in results:
        if result["scenario"] == "single-stream":
            groups.setdefault(result["source"], []).append(result)
    return list(groups.values())


def _network_name(network: list[Result]) -> str:
    return str(network[0]["artefact"].partition(".")[0])


def _engine_name(result: Result) -> str:
    return f"{result['engine']} ({result['precision']})"


def _forms(network: list[Result]) -> dict[str, list[Result]]:
    """Return the rows of each engine and artefact by a name for both, smallest batch first."""
    forms: dict[tuple[str, str], list[Result]] = {}
    for result in sorted(network, key=lambda r: int(r["batch"])):
        forms.setdefault((result["engine"], result["artefact"]), []).append(result)
    names = [_engine_name(rows[0]) for rows in forms.values()]
    return {
        name if names.count(name) == 1 else f"{name}, {artefact}": rows
        for name, ((_, artefact), rows) in zip(names, forms.items(), strict=True)
    }


def _reference(network: list[Result]) -> Result | None:
    """Return the row whose layers tell the network's work: of the widest precision, at the smallest batch."""
    rows = [result for result in network if result["layers"]]
    order = {"fp32": 0, "tf32": 1, "fp16": 2}
    return min(rows, key=lambda r: (order.get(r["precision"], 3), r["batch"], -len(r["layers"])), default=None)


def _shares(layers: Sequence[Mapping[str, Any]], key: str) -> list[tuple[str, float]]:
    """Return each layer's name and share of the sum of `key`, largest first."""
    total = sum(layer[key] for layer in layers)
    shares = [(layer["label"], layer[key] / total) for layer in layers] if total else []
    return sorted(shares, key=lambda pair: -pair[1])


def _listed(shares: Sequence[tuple[str, float]], verb: str) -> str:
    """Return "a holds 56 %, b 36 %, c 2 %" for the largest shares of at least 1 %."""
    named = [pair for pair in shares[:_NAMED] if pair[1] >= 0.01]
    texts = [f"{name} {f'{verb} ' if index == 0 else ''}{share:.0%}" for index, (name, share) in enumerate(named)]
    return ", ".join(texts)


def _memory_text(network: list[Result]) -> str:
    row = _reference(network)
    if row is None:
        return ""
    memory, shares = row["memory_bytes"], _listed(_shares(row["layers"], "bytes_weights"), "holds")
    if not shares:
        return ""
    weights = units.megabytes(memory["weights"])
    text = f"{shares} of the {weights} of weights."
    activations = memory.get("activations")
    if activations:
        more, less = ("Weights", "activations") if memory["weights"] >= activations else ("Activations", "weights")
        text += (
            f" {more} outweigh {less}: {weights} of weights, {units.megabytes(activations)} of activations alive at "
            f"once (batch {row['batch']})."
        )
    return text


def _computation_text(network: list[Result]) -> str:
    row = _reference(network)
    if row is None:
        return ""
    operations = sum(layer["flops"] for layer in row["layers"]) / row["batch"]
    shares = _listed(_shares(row["layers"], "flops"), "does")
    if not shares:
        return ""
    text = f"{shares} of the {units.count(operations)} operations of one inference."
    for name, rows in _forms(network).items():
        timed = _listed(_shares(rows[0]["layers"], "time_s"), "takes")
        if timed:
            text += f"\nOn {name}, batch {rows[0]['batch']}, {timed} of the time."
    return text


def _bounds_text(network: list[Result]) -> str:
    texts = []
    for name, rows in _forms(network).items():
        row = max((r for r in rows if r["layers"]), key=lambda r: int(r["batch"]), default=None)
        for chosen in dict.fromkeys(r["batch"] for r in (rows[0], row) if r is not None and r["layers"]):
            layers = next(r for r in rows if r["batch"] == chosen)["layers"]
            groups: dict[str, list[str]] = {}
            for layer in layers:
                groups.setdefault(bound_of(layer), []).append(layer["label"])
            parts = [f"{_shortened(names)} by {bound}" for bound, names in sorted(groups.items())]
            texts.append(f"{name}, batch {chosen}: {'; '.join(parts)}.")
    return "\n".join(texts)


def _shortened(labels: Sequence[str]) -> str:
    """List labels in their order, three or more that count on as `conv1 to conv5`."""
    runs: list[list[str]] = []
    for label in labels:
        if runs and _next(runs[-1][-1]) == label:
            runs[-1].append(label)
        else:
            runs.append([label])
    return ", ".join(f"{run[0]} to {run[-1]}" if len(run) > 2 else ", ".join(run) for run in runs)


def _next(label: str) -> str:
    """Return the label that would come after this one; edgeline_bench.layers.labels counts each kind."""
    kind = label.rstrip("0123456789")
    return f"{kind}{int(label[len(kind) :] or 0) + 1}"


def bound_of(layer: Mapping[str, Any]) -> str:
    """Say what a layer's roof is made of: computation, or a memory level and what streams from it."""
    if layer["bound"] == "compute":
        return "computation"
    kind = layer["slowest"]
    return f"the bandwidth of {layer['level'][kind]} ({kind})"


def _headroom_text(network: list[Result]) -> str:
    texts = []
    for name, rows in _forms(network).items():
        row = rows[0]
        light = (row["speed_of_light_s"] or {}).get("warm")
        if not light:
            continue
        time_s = row["latency_s"]["p50"]
        possible = (
            f"{name}, batch {row['batch']}: {units.seconds(time_s)} where {units.seconds(light)} would be possible"
        )
        so = f"so {time_s / light:.1f} times the least" if time_s >= light else "less than the model's least"
        texts.append(f"{possible}, {so}.")
    return "\n".join(texts)


def _batch_text(network: list[Result]) -> str:
    texts = []
    for name, rows in _forms(network).items():
        if len(rows) < 2:
            continue
        one, many = rows[0], rows[-1]
        rate = many["throughput_per_s"] / one["throughput_per_s"]
        wait = many["latency_s"]["p50"] / one["latency_s"]["p50"]
        text = f"{name}: batch {many['batch']} gives {rate:.1f} times the throughput of batch {one['batch']}"
        text += f", and an answer takes {wait:.1f} times as long"
        peaks = [row["memory_bytes"].get("peak") for row in (one, many)]
        if all(peaks):
            few, more = (units.megabytes(peak) for peak in peaks)
            text += f"; the process peaks at {more} {f'instead of {few}' if more != few else 'either way'}"
        if one.get("accuracy") is not None:
            text += f"; accuracy {one['accuracy']:.4f}, by the export's gate"
        texts.append(text + ".")
    return "\n".join(texts)


def _int8_text(network: list[Result], ceilings: Ceilings | None) -> str:
    forms = _forms(network)
    firsts = [rows[0] for rows in forms.values() if rows[0]["engine"] != "eager"]
    narrow = min((r for r in firsts if "int8" in r["arithmetic"]), key=_median_s, default=None)
    wide = min((r for r in firsts if r["precision"] == "fp32"), key=_median_s, default=None)
    if narrow is not None:
        text = ""
        same = ("batch", "engine", "device")
        if wide is not None and all(wide[key] == narrow[key] for key in same):
            gain = wide["latency_s"]["p50"] / narrow["latency_s"]["p50"]
            word = f"{gain:.1f} times as fast as" if gain >= 1.05 else f"{1 / gain:.1f} times as slow as"
            word = "about as fast as" if 1 / 1.05 < gain < 1.05 else word
            text = f"Measured at batch {narrow['batch']}, int8 on {narrow['engine']} is {word} fp32. "
        light = (narrow["speed_of_light_s"] or {}).get("warm")
        if light:
            time_s = units.seconds(narrow["latency_s"]["p50"])
            text += f"It takes {time_s}; this machine could do it in {units.seconds(light)}."
        return text
    return _int8_estimate(wide or _reference(network), ceilings)


def _median_s(result: Result) -> float:
    return float(result["latency_s"]["p50"])


def _int8_estimate(row: Result | None, ceilings: Ceilings | None) -> str:
    """Return what int8 could reach at best, from the float network's groups: a quarter of the bytes, int8's peak."""
    if row is None or ceilings is None or not row["layers"] or (row["precision"], row["device"]) != ("fp32", "cpu"):
        return ""
    if ceilings.stand_in("int8")[1]:
        return ""  # this machine has no int8 peak of its own
    threads, memory = row["threads"], row["memory_bytes"]
    peak = ceilings.peak("int8", threads)
    weights_per_s = ceilings.bandwidth_at((memory["weights"] + memory["activations"]) // 4, threads)
    least = sum(
        max(
            layer["flops"] / peak,
            layer["bytes_weights"] / 4 / weights_per_s,
            layer["bytes_activations"] / 4 / ceilings.bandwidth_at(layer["bytes_activations"] // 4, threads),
        )
        for layer in row["layers"]
    )
    time_s = row["latency_s"]["p50"]
    return (
        f"No int8 form was measured. With a quarter of the bytes and this machine's int8 peak, batch {row['batch']} "
        f"would take at least {units.seconds(least)}, where {_engine_name(row)} takes {units.seconds(time_s)} now."
    )
