"""Which classes a network confuses, as a table for people: true classes down, predictions across."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from rich import box
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

_LOG_WIDTH = 120  # of a log, where nobody says how wide it is

Matrix = npt.NDArray[np.int64]


def print_confusion(matrix: npt.ArrayLike, label_names: Sequence[str], console: Console | None = None) -> None:
    """Print the table and the most frequent confusions on stderr: as wide as the terminal, or plain in a log."""
    if console is None:
        terminal = sys.stderr.isatty()
        console = Console(stderr=True, highlight=False, force_terminal=terminal, width=None if terminal else _LOG_WIDTH)
    console.print(confusion_table(matrix, label_names, console.width, marked=not console.is_terminal))


def confusion_table(matrix: npt.ArrayLike, label_names: Sequence[str], width: int = 80, marked: bool = False) -> Group:
    """Return a table of at most `width` columns, with recall and precision, and the worst confusions below in words.

    `matrix` is [classes, classes], rows the true classes. The diagonal is bold, `marked` in brackets too, for where
    there is no bold. Where the matrix is too wide, each class has a row with what it is most often taken for.
    """
    counts = np.asarray(matrix, np.int64)
    widths = _widths(counts, label_names, width, marked)
    heading = "true classes (rows) by prediction (columns); recall and precision in %"
    if widths is None:
        heading, table = "classes", _long_table(counts, label_names)
    else:
        table = _table(counts, label_names, widths, marked)
    words = most_confused(counts, label_names) or ["no example was taken for another class's"]
    return Group(Text(heading), table, "", *(Text(line) for line in words))


def most_confused(matrix: npt.ArrayLike, label_names: Sequence[str], count: int = 3) -> list[str]:
    """Say the most frequent confusions in words, the worst first: "shirt taken for t-shirt 121 times"."""
    counts = np.array(matrix, np.int64)
    np.fill_diagonal(counts, 0)
    worst = np.argsort(-counts, axis=None, kind="stable")[:count]
    return [
        f"{label_names[true]} taken for {label_names[taken]} {number} time{'' if number == 1 else 's'}"
        for true, taken in (divmod(int(cell), len(counts)) for cell in worst)
        if (number := int(counts[true, taken]))
    ]


def _widths(counts: Matrix, names: Sequence[str], width: int, marked: bool) -> list[int] | None:
    """Return each class's column's width, its whole name's if there is room; None where the matrix does not fit."""
    cell = max(len(str(counts.max())) + (2 if marked else 0), len("100.0"))
    room = width - max(len("precision"), *map(len, names)) - len(" recall")
    for longest in range(max(map(len, names)), 0, -1):
        widths = [max(cell, min(len(name), longest)) for name in names]
        if sum(widths) + len(widths) <= room:  # a space stands before each
            return widths
    return None


def _table(counts: Matrix, names: Sequence[str], widths: Sequence[int], marked: bool) -> Table:
    table = Table(
        box=box.SIMPLE_HEAD, padding=0, show_edge=False, show_footer=True, header_style="", footer_style="dim"
    )
    recall, precision = _shares(counts, 1), _shares(counts, 0)
    table.add_column("", footer="precision", no_wrap=True)
    for name, share, width in zip(names, precision, widths, strict=True):
        table.add_column(Text(name[:width]), footer=share, justify="right", no_wrap=True, min_width=width)
    table.add_column("recall", justify="right", style="dim", no_wrap=True)
    for row, name in enumerate(names):
        cells = [_cell(int(number), row == column, marked) for column, number in enumerate(counts[row])]
        table.add_row(Text(name), *cells, recall[row])
    return table


def _cell(number: int, diagonal: bool, marked: bool) -> Text:
    if diagonal:
        return Text(f"[{number}]" if marked else str(number), style="bold green")
    # What is not there should not be read.
    return Text(str(number) if number else ".", style="" if number else "dim")


def _long_table(counts: Matrix, names: Sequence[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, header_style="")
    for heading, side in (("class", "left"), ("examples", "right"), ("recall %", "right"), ("precision %", "right")):
        table.add_column(heading, justify=side)  # type: ignore[arg-type]  # a Literal to rich
    table.add_column("most often taken for")
    recall, precision = _shares(counts, 1), _shares(counts, 0)
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    for row, name in enumerate(names):
        taken = int(wrong[row].argmax())
        worst = f"{names[taken]} ({wrong[row, taken]})" if wrong[row, taken] else ""
        table.add_row(Text(name), str(counts[row].sum()), recall[row], precision[row], Text(worst))
    return table


def _shares(counts: Matrix, axis: int) -> list[str]:
    """Return the diagonal's share of each row (axis 1) or column (axis 0), in per cent; "-" where there is nothing."""
    return [
        f"{100 * right / total:.1f}" if total else "-"
        for right, total in zip(counts.diagonal().tolist(), counts.sum(axis=axis).tolist(), strict=True)
    ]
