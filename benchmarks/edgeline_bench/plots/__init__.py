"""The report's plots, from the report alone: one module each. The page sets what differs between light and dark.

Adding a plot: a module here with a function from a report to a Plot, and its line in `all_plots`.
"""

from __future__ import annotations

from edgeline_bench.page_parts import Plot
from edgeline_bench.plots.batches import memory_plot, throughput_plot
from edgeline_bench.plots.latency import latency_plot
from edgeline_bench.plots.layers import layers_plot
from edgeline_bench.plots.networks import networks_plot
from edgeline_bench.plots.pareto import pareto_plot
from edgeline_bench.plots.roofline import roofline_plot
from edgeline_bench.plots.stages import memory_stages_plot, start_plot
from edgeline_bench.plots.steadiness import steadiness_plot
from edgeline_bench.plots.sweep import sweep_plot
from edgeline_bench.report import Report


def all_plots(report: Report) -> dict[str, Plot]:
    """Return the plots by name, in reading order."""
    plots = (
        pareto_plot(report), networks_plot(report), roofline_plot(report), layers_plot(report), latency_plot(report),
        throughput_plot(report), memory_plot(report), start_plot(report), memory_stages_plot(report),
        steadiness_plot(report), sweep_plot(report),
    )  # fmt: skip
    return {plot.name: plot for plot in plots}
