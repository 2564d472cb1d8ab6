"""The Pareto front: the rows that no other row beats in one thing without being worse in another.

What counts is latency, peak memory, size on the device and accuracy. Differences within what one run cannot tell are
none, or nearly every row would be on the front for a page of memory or one digit: 5 % of latency (compare-reports'
least noise), 1 % of memory and size (recommend-model's), 0.002 of accuracy (4 of 2,000 digits, what the 95 % intervals
of exports' drops reach). Nothing else is weighed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

Result = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Objective:
    """Something to be small: `value` is None where a row does not tell it, and such a row is on no front.

    Two values are the same when they differ by at most `relative` of the one and `absolute` together.
    """

    name: str
    value: Callable[[Result], float | None]
    relative: float = 0.0
    absolute: float = 0.0

    def slack(self, value: float) -> float:
        """Return by how much another value may differ from this one and be the same."""
        return self.relative * abs(value) + self.absolute


OBJECTIVES = (
    Objective("latency", lambda row: row["latency_s"]["p50"], relative=0.05),
    Objective("memory", lambda row: row["memory_bytes"]["peak"], relative=0.01),
    Objective("size", lambda row: size_bytes(row), relative=0.01),
    Objective("accuracy", lambda row: None if row["accuracy"] is None else -row["accuracy"], absolute=0.002),
)


def size_bytes(row: Result) -> int | None:
    """Return the bytes that the engine reads from a device's disk; the whole artefact's in reports of before."""
    size: int | None = row.get("deployed_bytes")
    whole: int | None = row["artefact_bytes"]
    return whole if size is None else size


def front_of(rows: Sequence[Result], objectives: Sequence[Objective] = OBJECTIVES) -> list[Result]:
    """Return the rows that no other is at least as good as in every objective and better in one, in their order.

    The rows are to be of one network, batch size and scenario.
    """
    valued = [(row, [objective.value(row) for objective in objectives]) for row in rows]
    known = [(row, [value for value in values if value is not None]) for row, values in valued if None not in values]
    return [row for row, values in known if not any(_beats(other, values, objectives) for _, other in known)]


def _beats(one: Sequence[float], other: Sequence[float], objectives: Sequence[Objective]) -> bool:
    """Say whether `one` is as good as `other` in everything, and better in something."""
    triples = [(a, b, objective.slack(b)) for a, b, objective in zip(one, other, objectives, strict=True)]
    return all(a <= b + slack for a, b, slack in triples) and any(a < b - slack for a, b, slack in triples)
