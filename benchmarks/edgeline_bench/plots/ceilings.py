"""What a roofline's layers lie under: the ceilings of one machine, or of several in one plot, with their names.

After S. Williams, A. Waterman and D. Patterson, "Roofline: an insightful visual performance model for multicore
architectures", Communications of the ACM 52(4), 2009. It knows layers only by how far the plot has to reach.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from edgeline_bench.plots import quantities
from edgeline_bench.report import Report

_TOP = 2.5  # room above the highest ceiling, for its name
_NAME_HEIGHT = 0.05  # of the plot's: two names need as much between them


@dataclass(frozen=True, slots=True)
class Ceilings:
    """What a machine can do at most: operations/s by precision, bytes/s by memory level."""

    flops: dict[str, float]
    bandwidth: dict[str, float]


@dataclass(frozen=True, slots=True)
class Machine:
    """Ceilings as a plot shows them: in which colour, and under which name where it is one of several machines."""

    ceilings: Ceilings
    name: str = ""
    colour: str = "var(--soft)"
    dash: str = "solid"


@dataclass(frozen=True, slots=True)
class Frame:
    """The part of the plane that is shown: intensity (operations/byte) by rate (operations/s), same in every view."""

    x_min: float
    x_max: float
    y_min: float
    y_max: float


def ceilings_of(report: Report) -> Ceilings | None:
    """Return the ceilings for the threads of the run; None where they were not measured."""
    roofline = report.get("roofline")
    if not roofline:
        return None
    key = f"threads_{roofline.get('threads', report['protocol']['threads'])}"
    flops = {p: rates.get(key) or max(rates.values()) for p, rates in roofline["ceilings"]["flops"].items() if rates}
    bandwidth = {level: rate for level, rate in roofline["ceilings"]["bandwidth"].items() if rate}
    return Ceilings(flops, bandwidth) if flops and bandwidth else None


def frame_of(layers: Sequence[Mapping[str, Any]], machines: Sequence[Ceilings]) -> Frame:
    """Return what must be shown for all layers and ceilings; the slowest memory enters from the left side."""
    peak = max(rate for ceilings in machines for rate in ceilings.flops.values())
    slowest = min(rate for ceilings in machines for rate in ceilings.bandwidth.values())
    x_min = min(layer["intensity"] for layer in layers) / 8
    x_max = max(*(layer["intensity"] for layer in layers), peak / slowest) * 6
    y_min = min(*(layer["attained_flops_per_s"] for layer in layers), slowest * x_min) / 1.6
    y_max = max(peak, *(layer["attained_flops_per_s"] for layer in layers)) * _TOP
    return Frame(x_min, x_max, y_min, y_max)


def add_ceilings(figure: go.Figure, machines: Sequence[Machine], frame: Frame, used: Container[str]) -> None:
    """Draw the machines' ceilings with their names, dotted for a precision that is not among those `used`.

    Lines of one machine that lie too close for two names share one. A line that lies as close to one of an earlier
    machine has none: that one's stands for both.
    """
    for machine in machines:
        _add_lines(figure, machine, frame, used)
    nearest = (frame.y_max / frame.y_min) ** _NAME_HEIGHT
    for text, rate in _names(machines, lambda c: c.bandwidth, lambda rate, _: quantities.bytes_rate(rate), nearest):
        _name_slope(figure, text, rate, frame)
    for text, rate in _names(machines, lambda c: c.flops, quantities.operations_rate, nearest):
        _name_level(figure, text, rate, frame)


def set_axes(figure: go.Figure, frame: Frame) -> None:
    """Both axes logarithmic, over the frame."""
    figure.update_xaxes(
        type="log", title="operations a byte", range=[math.log10(frame.x_min), math.log10(frame.x_max)],
        dtick=1, showline=True,
    )  # fmt: skip
    figure.update_yaxes(
        type="log", title="operations a second", range=[math.log10(frame.y_min), math.log10(frame.y_max)],
        dtick=1, exponentformat="SI",
    )  # fmt: skip
    figure.update_layout(height=520)


def _add_lines(figure: go.Figure, machine: Machine, frame: Frame, used: Container[str]) -> None:
    ceilings = machine.ceilings
    fastest, peak = max(ceilings.bandwidth.values()), max(ceilings.flops.values())
    for level, rate in ceilings.bandwidth.items():
        x = _left_end(rate, frame)
        _add_line(figure, machine, (x, peak / rate), (x * rate, peak), level, machine.dash)
    for precision, rate in ceilings.flops.items():
        dash = machine.dash if precision in used else "dot"
        _add_line(figure, machine, (rate / fastest, frame.x_max), (rate, rate), precision, dash)


def _add_line(
    figure: go.Figure, machine: Machine, x: tuple[float, float], y: tuple[float, float], ceiling: str, dash: str
) -> None:
    figure.add_scatter(
        x=x, y=y, mode="lines", showlegend=bool(machine.name), hoverinfo="skip", meta=f"ceiling {ceiling}",
        name=f"ceilings of {machine.name}" if machine.name else ceiling,
        line={"color": machine.colour, "width": 1.5, "dash": dash},
    )  # fmt: skip


def _names(
    machines: Sequence[Machine], rates_of: Callable[[Ceilings], dict[str, float]],
    words: Callable[[float, str], str], nearest: float,
) -> list[tuple[str, float]]:  # fmt: skip
    """Return the names that there is room for, each with the rate of the line that it stands at."""
    found: list[tuple[str, float]] = []
    for machine in machines:
        prefix = f"{machine.name}: " if machine is not machines[0] else ""
        for group in _close_together(rates_of(machine.ceilings), nearest):
            rate = max(group.values())
            if all(max(rate / other, other / rate) >= nearest for _, other in found):
                found.append((prefix + ", ".join(f"{name} {words(r, name)}" for name, r in group.items()), rate))
    return found


def _close_together(rates: Mapping[str, float], nearest: float) -> list[dict[str, float]]:
    """Split rates, highest first, where one lies further than `nearest` below the one before."""
    groups: list[dict[str, float]] = []
    last = math.inf
    for name, rate in sorted(rates.items(), key=lambda pair: -pair[1]):
        if last >= rate * nearest:
            groups.append({})
        groups[-1][name] = last = rate
    return groups


def _left_end(rate: float, frame: Frame) -> float:
    return max(frame.x_min, frame.y_min / rate)


def _name_slope(figure: go.Figure, text: str, rate: float, frame: Frame) -> None:
    x = _left_end(rate, frame)
    figure.add_annotation(
        name="along", text=text, x=math.log10(x), y=math.log10(x * rate), xanchor="center", yanchor="middle",
        showarrow=False, font={"color": "var(--soft)"},
    )  # fmt: skip


def _name_level(figure: go.Figure, text: str, rate: float, frame: Frame) -> None:
    figure.add_annotation(
        text=text, x=math.log10(frame.x_max), y=math.log10(rate), xanchor="right", yanchor="bottom", showarrow=False,
        font={"color": "var(--soft)"},
    )  # fmt: skip
