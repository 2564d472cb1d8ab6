"""How steady the machine was: each round's median against the row's own, beside the reference kernel's."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from edgeline_bench import figures
from edgeline_bench.page_parts import Plot, View
from edgeline_bench.plots.series import Result, Styles, by_network_and_batch, styles_of, views_of
from edgeline_bench.report import Report
from edgeline_bench.tables import main_results


def steadiness_plot(report: Report) -> Plot:
    """Return each round's median over the median of all rounds."""
    styles = styles_of(report)
    kernel = report["reference_kernel"]["round_medians_s"]
    return Plot(
        "steadiness",
        "Steadiness",
        "Each round's median against the row's own. What moves all lines alike, the thick reference kernel among them, "
        "is the machine and not an engine.",
        views_of(main_results(report), by_network_and_batch(styles), lambda rows: _view(rows, styles, kernel)),
    )


def _view(rows: list[Result], styles: Styles, kernel: list[float]) -> View:
    figure = go.Figure()
    _add(figure, "reference kernel", "reference kernel", kernel, {"color": "var(--soft)", "width": 4})
    for row in rows:
        style = {"color": styles.colour(row), "dash": styles.dash(row), "width": 1.5}
        _add(figure, styles.name(row), styles.key(row), row["round_medians_s"], style)
    figure.update_xaxes(title="round")
    figure.update_yaxes(title="off the row's median", ticksuffix=" %")
    figure.update_layout(height=320)
    spread = figures.relative_spread(kernel)
    return View(figure, f"Round medians over {len(kernel)} rounds; the reference kernel spreads by {spread:.1%}.")


def _add(figure: go.Figure, name: str, key: str, medians: list[float], line: dict[str, object]) -> None:
    relative = 100 * (np.asarray(medians) / np.median(medians) - 1)
    figure.add_scatter(
        x=list(range(1, len(medians) + 1)), y=[round(float(v), 3) for v in relative], name=name, legendgroup=key,
        mode="lines", line=line, hovertemplate=f"round %{{x}}: %{{y:+.1f}}<extra>{name}</extra>",
    )  # fmt: skip
