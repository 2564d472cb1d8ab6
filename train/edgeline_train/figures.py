"""Pictures by matplotlib, each written whole or not at all.

Figures are made by matplotlib's classes and never by pyplot, which keeps them in a global list and looks for a screen.
matplotlib is imported when a picture is drawn, not before.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from edgeline.errors import InputError, MissingCapabilityError
from edgeline.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FORMATS = ("png", "svg")
_DPI = 160


def check_picture(path: Path) -> str:
    """Return the format of a picture by its suffix, "png" or "svg", after checking that it can be drawn here.

    A command calls this before it trains. Raises InputError for another suffix, MissingCapabilityError without
    matplotlib.
    """
    kind = path.suffix.removeprefix(".").lower()
    if kind not in _FORMATS:
        raise InputError(f"a picture ends in .png or .svg, got '{path}': name it {path.with_suffix('.png').name}")
    if find_spec("matplotlib") is None:
        raise MissingCapabilityError(f"drawing {path} needs matplotlib: pip install 'edgeline[train]'")
    return kind


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of that size in inches, whose parts will make room for each other.

    Raises MissingCapabilityError without matplotlib.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingCapabilityError(f"matplotlib does not import ({error}): pip install 'edgeline[train]'") from None
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG or SVG, by the suffix of `path`. Raises InputError for another one, OSError."""
    kind = check_picture(path)
    # Without a date the same picture gives the same PNG.
    metadata = {"Date": None} if kind == "svg" else {}
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format=kind, dpi=_DPI, metadata=metadata, facecolor="white")
