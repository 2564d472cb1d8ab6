"""What the plots of one report share: which rows belong together, what they are called, and their colours and marks.

An engine has a colour everywhere on the page, a form of the network (`fp32.onnx`, `int8.onnx`) a marker; where an
engine ran several forms, a dash or a hatching tells them apart.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from edgeline_bench.page_parts import View
from edgeline_bench.report import Report

Result = dict[str, Any]

# Okabe and Ito's palette, told apart by colour-blind readers and on light and dark ground alike; then three of Paul
# Tol's kind, for reports of more engines.
COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#D55E00", "#CC79A7", "#0072B2", "#8C8C8C", "#AA4466", "#999933", "#7B61C9")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star")
PATTERNS = ("", "/", ".", "x", "-", "|")
_LONGEST_FORM = 24  # characters; a legend's entry must fit on a phone


@dataclass(frozen=True, slots=True)
class Styles:
    """The names and looks of a report's rows: the title of each `source`, and the forms that each engine ran."""

    networks: dict[str, str]
    forms: dict[str, list[str]]

    def network(self, result: Result) -> str:
        """What the network is called that a row ran."""
        return self.networks[result["source"]]

    def form(self, result: Result) -> str:
        """What of the artefact's name the network's does not say: `int8.onnx`."""
        return _form(result["artefact"], self.network(result))

    def name(self, result: Result) -> str:
        """Engine and form, shortened: what a legend says."""
        form = self.form(result)
        form = form if len(form) <= _LONGEST_FORM else f"{form[: _LONGEST_FORM - 3]}..."
        return f"{result['engine']} {form}".rstrip()

    def colour(self, result: Result) -> str:
        """The engine's."""
        return COLOURS[list(self.forms).index(result["engine"]) % len(COLOURS)]

    def dash(self, result: Result) -> str:
        """For lines: solid for an engine's first form, since its colour says enough."""
        return DASHES[self._rank(result) % len(DASHES)]

    def pattern(self, result: Result) -> str:
        """For bars, likewise."""
        return PATTERNS[self._rank(result) % len(PATTERNS)]

    def symbol(self, result: Result) -> str:
        """The form's, for points: the same for every engine."""
        forms = list(dict.fromkeys(form for forms in self.forms.values() for form in forms))
        return SYMBOLS[forms.index(self.form(result)) % len(SYMBOLS)]

    def _rank(self, result: Result) -> int:
        return self.forms[result["engine"]].index(self.form(result))

    def key(self, result: Result) -> str:
        """What tells one line of a plot from another, whole and unshortened."""
        return f"{result['engine']} {result['artefact']}"


def styles_of(report: Report) -> Styles:
    """Name and colour a report's rows."""
    results = report["results"]
    networks = {source: _network_title(results, source) for source in dict.fromkeys(r["source"] for r in results)}
    forms: dict[str, list[str]] = {}
    for result in results:
        known, form = forms.setdefault(result["engine"], []), _form(result["artefact"], networks[result["source"]])
        if form not in known:
            known.append(form)
    return Styles(networks, forms)


def views_of(
    results: Iterable[Result], choices: Callable[[Result], dict[str, str]], view: Callable[[list[Result]], View | None]
) -> tuple[View, ...]:
    """Group rows by their choices and make a view of each group that has something to show."""
    groups: dict[tuple[tuple[str, str], ...], list[Result]] = {}
    for result in results:
        groups.setdefault(tuple(choices(result).items()), []).append(result)
    made = ((dict(key), view(rows)) for key, rows in groups.items())
    return tuple(View(v.figure, v.alt, key, v.note) for key, v in made if v is not None)


def by_network_and_batch(styles: Styles) -> Callable[[Result], dict[str, str]]:
    """The choices of most plots."""
    return lambda result: {"network": styles.network(result), "batch": str(result["batch"])}


def last_of_largest_batch(views: tuple[View, ...]) -> int:
    """Return the view of the largest batch; of several networks, the last one's: people name the small one first."""
    return max(range(len(views)), key=lambda i: (int(views[i].choices["batch"]), i), default=0)


def label_of(layer: dict[str, Any]) -> str:
    """What people call a layer: `conv2`; its name in the graph where it has no such label."""
    return str(layer.get("label") or layer["name"])


def listed(words: Iterable[str]) -> str:
    """Join words for a sentence."""
    return ", ".join(dict.fromkeys(words))


def _network_title(results: list[Result], source: str) -> str:
    """What eager PyTorch, called as its network is, is called; else the beginning that the artefacts' names share."""
    rows = [r for r in results if r["source"] == source]
    eager = [r["artefact"] for r in rows if r["engine"] == "eager"]
    if eager:
        return str(eager[0])
    names = [r["artefact"].split(".", 1)[0] for r in rows]
    shared = str(os.path.commonprefix(names))  # noqa: RUF071 - character by character is what is meant
    return shared.rstrip("-_. ") or str(names[0])


def _form(artefact: str, network: str) -> str:
    return artefact.removeprefix(network).strip("-_. ") if artefact != network else ""
