"""All reports' rooflines in one plot: a colour per report, a mark per engine and form of the network.

Drawn by the parts that draw the report's own roofline (edgeline_bench.plots); nothing of it is repeated here.
"""

from __future__ import annotations

import plotly.graph_objects as go

from edgeline_bench.compare import Comparison
from edgeline_bench.page_parts import Plot, View
from edgeline_bench.plots import quantities
from edgeline_bench.plots.ceilings import Frame, Machine, add_ceilings, ceilings_of, frame_of, set_axes
from edgeline_bench.plots.roofline import add_layers, placed_layers, used_precisions
from edgeline_bench.plots.series import (
    COLOURS,
    DASHES,
    SYMBOLS,
    Result,
    last_of_largest_batch,
    styles_of,
    views_of,
)
from edgeline_bench.tables import Table, main_results


def rooflines_plot(comparison: Comparison) -> Plot:
    """Return all rooflines in one, a view per network and batch; where there is none, the sentence that says so."""
    title, machines = "Every layer under its machine's roofline", _machines(comparison)
    rows = [row for name in machines for row in _rows(comparison, name)]
    if not rows:
        return Plot("rooflines", title, "", (), absent="No layer of these reports was placed under a roofline.")
    caption = (
        "A point is a layer: to the right, more operations for each byte it must move; upwards, more operations a "
        "second. The lines are what each report's machine could do at most; where two lie close, one is named, and the "
        "table below has both. The stem above a point ends at its own roof; the bigger the point, the bigger its share "
        "of the time."
    )
    ceilings = [machine.ceilings for machine in machines.values()]
    frame = frame_of([layer for row in rows for layer in placed_layers(row)], ceilings)
    views = views_of(rows, lambda row: row["choices"], lambda found: _view(found, machines, frame))
    return Plot("rooflines", title, caption, views, last_of_largest_batch(views))


def ceilings_table(comparison: Comparison) -> Table:
    """What each report's machine could do at most, for the threads of the run."""
    machines = _machines(comparison)
    precisions = dict.fromkeys(p for machine in machines.values() for p in machine.ceilings.flops)
    levels = dict.fromkeys(level for machine in machines.values() for level in machine.ceilings.bandwidth)
    cells = [
        (f"{p} arithmetic",
         *(quantities.operations_rate(machine.ceilings.flops.get(p), p) for machine in machines.values()))
        for p in precisions
    ]  # fmt: skip
    cells += [
        (f"read from {level}",
         *(quantities.bytes_rate(machine.ceilings.bandwidth.get(level)) for machine in machines.values()))
        for level in levels
    ]  # fmt: skip
    return Table("Ceilings", ("ceiling", *machines), tuple(cells), 1)


def _machines(comparison: Comparison) -> dict[str, Machine]:
    """Return how the ceilings of each report that has them are drawn, by the report's name."""
    return {
        name: Machine(ceilings, name, COLOURS[i % len(COLOURS)], DASHES[min(i, 1)])
        for i, (name, report) in enumerate(zip(comparison.names, comparison.reports, strict=True))
        if (ceilings := ceilings_of(report)) is not None
    }


def _rows(comparison: Comparison, name: str) -> list[Result]:
    """Return a report's rows with placed layers; `report`, `form` and `choices` say whose, what and where they are."""
    report = comparison.reports[comparison.names.index(name)]
    styles = styles_of(report)
    return [
        {**row, "report": name, "form": styles.name(row),
         "choices": {"network": styles.network(row), "batch": str(row["batch"])}}
        for row in main_results(report)
        if placed_layers(row)
    ]  # fmt: skip


def _view(rows: list[Result], machines: dict[str, Machine], frame: Frame) -> View:
    figure = go.Figure()
    shown = [machines[name] for name in dict.fromkeys(row["report"] for row in rows)]
    layers = [layer for row in rows for layer in row["layers"]]
    add_ceilings(figure, shown, frame, used_precisions(layers, shown[0].ceilings))
    forms = list(dict.fromkeys(row["form"] for row in rows))
    for row in rows:
        name = f"{row['report']}: {row['form']}"
        symbol = SYMBOLS[forms.index(row["form"]) % len(SYMBOLS)]
        add_layers(figure, row, name=name, key=name, colour=machines[row["report"]].colour, symbol=symbol)
    set_axes(figure, frame)
    counts = ", ".join(f"{row['report']} {row['form']} {len(placed_layers(row))}" for row in rows)
    return View(figure, f"Rooflines of {len(shown)} reports with the layers of each: {counts}.")
