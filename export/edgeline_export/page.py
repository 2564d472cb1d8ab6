"""report.html: what an export found, for people: the gate, the precision, and the histogram of each activation.

One file without scripts. The drawings are SVG made here: bars and two lines need no library, and an artefact that
carried one would be larger than its network.
"""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

import numpy as np

from edgeline.manifest import Manifest
from edgeline_export.calibration import Calibration
from edgeline_export.calibration_record import histogram
from edgeline_export.ranges import TensorRange

PAGE_FILE = "report.html"
_WIDTH, _HEIGHT = 420, 90

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; color: #1b1f24 }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2rem }
table { border-collapse: collapse } td { padding: .15rem 1.2rem .15rem 0; vertical-align: top }
td:first-child { color: #57606a }
.tensors { display: grid; grid-template-columns: repeat(auto-fill, minmax(27rem, 1fr)); gap: 1.2rem }
figure { margin: 0 } figcaption { font-size: .9rem } svg { width: 100%; height: auto; background: #f6f8fa }
.bar { fill: #4c78a8 } .cut { stroke: #c0392b; stroke-width: 1.5 } .zero { stroke: #8c959f; stroke-dasharray: 2 2 }
@media (prefers-color-scheme: dark) {
  body { background: #0d1117; color: #e6edf3 } svg { background: #161b22 } td:first-child { color: #9198a1 }
}
"""


def export_page(manifest: Manifest, calibration: Calibration, quantised: frozenset[str]) -> str:
    """Return the page for an artefact whose verification is done; `quantised` names the tensors that saturate."""
    title = f"{manifest.name}, {manifest.precision}, {manifest.format}"
    cut = calibration.activation_ranges()
    figures = "\n".join(
        _figure(name, seen, cut[name].threshold if name in quantised else None)
        for name, seen in calibration.ranges.items()
    )
    legend = (
        "Red: where a quantised tensor saturates; the others stay in floating point. " if quantised else ""
    ) + "Bar heights are logarithmic; the dashed line is zero."
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{html.escape(title)}</title><style>{_STYLE}</style></head><body>
<h1>Export of {html.escape(title)}</h1>
{_table(_gate(manifest.verification))}
<h2>Precision</h2>
{_table(_precision(manifest.precision_coverage))}
<h2>Calibration</h2>
{_table(_calibration(calibration))}
<p>{legend}</p>
<div class="tensors">
{figures}
</div>
</body></html>
"""


def _table(rows: Mapping[str, str]) -> str:
    cells = "\n".join(f"<tr><td>{html.escape(k)}</td><td>{html.escape(v)}</td></tr>" for k, v in rows.items())
    return f"<table>{cells}</table>"


def _gate(check: Mapping[str, Any]) -> dict[str, str]:
    rows = {
        "verified with": str(check["engine"]),
        "against": str(check["reference_engine"]),
        "on": f"{check['samples']:,} samples ({check['data']})",
        "largest difference of a logit": f"{check['max_abs_diff']:.3g}",
        "same class": f"{check['top1_agreement']:.4f}",
    }
    if check["accuracy_exported"] is not None:
        low, high = check["drop_ci95"]
        rows["accuracy"] = f"{check['accuracy_exported']:.4f}, source {check['accuracy_reference']:.4f}"
        interval = f"95 % interval {low:.4f} to {high:.4f}, McNemar p {check['mcnemar_p']:.3f}"
        rows["drop"] = f"{check['drop']:.4f} ({interval})"
    return rows


def _precision(coverage: Mapping[str, Any]) -> dict[str, str]:
    rows = {
        kind: ", ".join(f"{share:.2%} {name}" for name, share in coverage[kind].items()) for kind in ("macs", "weights")
    }
    return {
        "multiply-accumulates": rows["macs"],
        "weights": rows["weights"],
        "read from": f"the {coverage['source']}",
    }


def _calibration(calibration: Calibration) -> dict[str, str]:
    data = calibration.data
    split = f", {data.split} split" if data.split else ""
    learnt = calibration.learnt
    trained = "" if learnt is None else f"; {len(learnt.ranges)} tensors by quantisation-aware training"
    return {
        "samples": f"{len(data):,} of {data.dataset}{split}",
        "method": calibration.method + trained,
        "key": calibration.key[:16],
    }


def _figure(name: str, seen: TensorRange, threshold: float | None) -> str:
    """Draw one histogram; `threshold` marks where int8 saturates."""
    low, high, counts = histogram(seen)
    span = max(high - low, 1e-30)
    heights = np.log1p(counts) / max(float(np.log1p(counts.max(initial=1))), 1e-30) * (_HEIGHT - 6)
    step = _WIDTH / len(counts)
    bars = "".join(
        f"M{i * step:.1f} {_HEIGHT}v{-height:.1f}h{step:.2f}v{height:.1f}z"
        for i, height in enumerate(heights)
        if height
    )
    lines = []
    marks = [("zero", 0.0)] + ([] if threshold is None else [("cut", threshold), ("cut", -threshold)])
    for kind, value in marks:
        x = (value - low) / span * _WIDTH
        if 0 <= x <= _WIDTH:
            lines.append(f'<line class="{kind}" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{_HEIGHT}"/>')
    cut = "" if threshold is None else f", saturates at {threshold:.4g}"
    caption = f"{html.escape(name)}: {seen.smallest:.4g} to {seen.largest:.4g}{cut}"
    return (
        f'<figure><svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{caption}">'
        f'<path class="bar" d="{bars}"/>{"".join(lines)}</svg><figcaption>{caption}</figcaption></figure>'
    )
