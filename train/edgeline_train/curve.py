"""The learning curve, from the epochs of a history file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeline.errors import InputError
from edgeline_train.figures import check_picture, new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Told apart without colour too: the test split's line is whole, its points filled.
_TRAIN: dict[str, Any] = {"color": "#8a5a00", "linestyle": "--", "marker": "o", "markerfacecolor": "white"}
_TEST: dict[str, Any] = {"color": "#1f4e9c", "linestyle": "-", "marker": "o"}
_KEPT = "#444444"
_POINTS_UP_TO = 40  # epochs: beyond, points would cover the line


def plot_curve(epochs: Sequence[Mapping[str, Any]], path: Path, title: str) -> None:
    """Draw loss and accuracy of both splits over the epochs, and mark the epoch whose weights were kept.

    `epochs` are records of edgeline_train.history. Raises InputError when there are none or for a suffix that is
    neither .png nor .svg, MissingCapabilityError without matplotlib, OSError.
    """
    check_picture(path)
    if not epochs:
        raise InputError(f"there are no epochs to draw in {path}: train at least one")
    kept = kept_epoch(epochs)
    figure = new_figure(9.0, 3.9)
    figure.suptitle(title, fontsize=12)
    loss, accuracy = figure.subplots(1, 2)
    _panel(loss, epochs, "loss", kept, "cross-entropy")
    _panel(accuracy, epochs, "accuracy", kept, "accuracy")
    handles, names = loss.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=3, frameon=False, fontsize=10)
    save_figure(figure, path)


def kept_epoch(epochs: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return the record of the epoch that training keeps: the best test accuracy, of equals the lower test loss."""
    return max(epochs, key=lambda epoch: (epoch["test_accuracy"], -epoch["test_loss"]))


def _panel(axes: Axes, epochs: Sequence[Mapping[str, Any]], quantity: str, kept: Mapping[str, Any], title: str) -> None:
    from matplotlib.ticker import MaxNLocator

    numbers = [epoch["epoch"] for epoch in epochs]
    size = 4.5 if len(epochs) <= _POINTS_UP_TO else 0
    for split, style, name in (("train", _TRAIN, "training (mean over the epoch)"), ("test", _TEST, "test")):
        values = [epoch[f"{split}_{quantity}"] for epoch in epochs]
        axes.plot(numbers, values, label=name, linewidth=1.4, markersize=size, **style)
    best = kept[f"test_{quantity}"]
    axes.plot([kept["epoch"]], [best], "o", markersize=11, markerfacecolor="none", markeredgecolor=_KEPT,
              markeredgewidth=1.2, linestyle="none", label=f"kept: epoch {kept['epoch']}")  # fmt: skip
    axes.set_title(f"{title} (test, epoch {kept['epoch']}: {best:.4f})", fontsize=11, loc="left")
    axes.set_xlabel("epoch")
    # Half an epoch of room at each side: a lone point stands in the middle, and the last is not cut.
    axes.set_xlim(min(numbers) - 0.5, max(numbers) + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.margins(y=0.12)
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, 0.0), min(high, 1.01) if quantity == "accuracy" else high)
    axes.grid(axis="y", linewidth=0.5, color="#d0d0d0")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
