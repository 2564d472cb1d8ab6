"""What is timed against each other: one network in one precision, at one batch size, on so many threads."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeline.artefact import Artefact
from edgeline.command import note
from edgeline.errors import EdgelineError, ResourceError
from edgeline_bench.peers import PEERS
from edgeline_bench.peers.judge import Judgement, judged
from edgeline_bench.peers.models import model_of
from edgeline_bench.points import Point, PointOptions, baseline_points, points_of_artefact
from edgeline_bench.rounds import Measured, Plan, Step, run_rounds
from edgeline_bench.validity import invalid_reasons
from edgeline_bench.worker_handle import WorkerHandle

OURS, EAGER = "edgeline", "eager"


@dataclass(frozen=True, slots=True)
class Case:
    """One comparison."""

    model: str
    precision: str
    batch: int = 1
    threads: int = 1

    @property
    def title(self) -> str:
        """How people call it."""
        threads = f"{self.threads} thread{'s' * (self.threads != 1)}"
        return f"{self.model} {self.precision}, batch {self.batch}, {threads}"


CASES = (
    *(Case(model, precision) for model in ("lenet", "lenet-relu") for precision in ("fp32", "int8")),
    *(Case(model, precision, batch=256) for model in ("lenet", "lenet-relu") for precision in ("fp32", "int8")),
    *(Case("alexnet", precision, threads=threads) for precision in ("fp32", "int8") for threads in (1, 2)),
)


@dataclass(frozen=True, slots=True)
class Row:
    """One engine in a case: the median of each round, or `why` it has none or is not compared."""

    engine: str
    round_medians_s: tuple[float, ...]
    judgement: Judgement | None
    why: str | None

    @property
    def median_s(self) -> float | None:
        """The median of the rounds' medians; None where nothing was timed."""
        return statistics.median(self.round_medians_s) if self.round_medians_s else None

    @property
    def compared(self) -> bool:
        """Whether it has a time and the right answers."""
        return bool(self.round_medians_s) and self.why is None


@dataclass(frozen=True, slots=True)
class Outcome:
    """A case with all its rows, and what may have spoilt it."""

    case: Case
    rows: tuple[Row, ...]
    remarks: tuple[str, ...] = ()

    def row(self, engine: str) -> Row | None:
        """Return the row of an engine that can be compared; None where it cannot."""
        return next((row for row in self.rows if row.engine == engine and row.compared), None)

    @property
    def fastest_peer(self) -> Row | None:
        """The peer with the smallest median among those with the right answers."""
        peers = [row for row in self.rows if row.engine not in (OURS, EAGER) and row.compared]
        return min(peers, key=lambda row: row.median_s or 0.0, default=None)

    def to_record(self) -> dict[str, Any]:
        """Return it as plain JSON."""
        rows = [{**asdict(row), "median_s": row.median_s} for row in self.rows]
        return {**asdict(self.case), "rows": rows, "remarks": list(self.remarks)}


@dataclass(frozen=True, slots=True)
class Setting:
    """What all cases share: where files are, how many digits judge, and how long is measured."""

    weights: Mapping[str, Path]
    tflite: Path
    work: Path
    digits: int
    rounds: int
    slot_s: float
    cores: tuple[int, ...]

    def pinned(self, threads: int) -> tuple[int, ...]:
        """Return the cores of a run: the last ones, as the first ones serve most interrupts."""
        return self.cores[-threads:]


def points_of(case: Case, artefact: Artefact, setting: Setting) -> tuple[list[Point], list[Row]]:
    """Return the points of all engines that can run a case, ours first, eager last, and rows of those that cannot."""
    options = PointOptions(
        (case.batch,), case.threads, setting.pinned(case.threads), setting.weights[case.model], None,
        scenarios=("single-stream" if case.batch == 1 else "offline",),
    )  # fmt: skip
    (ours,) = points_of_artefact(artefact, options)
    points, missing = [replace(ours, engine=OURS, host="ours", source={"engine": ours.engine})], []
    for peer in PEERS:
        if case.precision not in peer.precisions:
            continue
        try:
            model = model_of(peer, case.batch, artefact, setting.tflite, setting.work)
        except EdgelineError as error:
            note(f"{case.title}: {peer.name} is left out: {error}")
            missing.append(Row(peer.name, (), None, str(error)))
            continue
        source = {"model": str(model.resolve()), "precision": case.precision}
        points.append(replace(ours, engine=peer.name, host="peer", source=source))
    return [*points, *baseline_points([artefact], options)], missing


def judge(
    case: Case, points: Sequence[Point], setting: Setting, labels: npt.NDArray[np.int64]
) -> dict[str, Judgement | str]:
    """Run the test split through each engine, in a process of its own; a string says why there is no judgement.

    `labels` are of the whole split. Raises ResourceError where eager PyTorch, the reference, fails.
    """
    found: dict[str, npt.NDArray[np.float32] | str] = {}
    with tempfile.TemporaryDirectory() as folder:
        for point in points:
            out = Path(folder) / f"{point.engine}.npy"
            note(f"{case.title}: answers of {point.engine}")
            try:
                with WorkerHandle(point) as worker:
                    worker.ask("answers", count=setting.digits, out=str(out))
                found[point.engine] = np.load(out)
            except EdgelineError as error:
                note(f"{case.title}: {point.engine} is left out: {error}")
                found[point.engine] = str(error)
    reference = found[EAGER]
    if isinstance(reference, str):
        raise ResourceError(f"eager PyTorch, which the others are judged by, does not run: {reference}")
    return {
        engine: logits if isinstance(logits, str) else judged(logits, reference, labels[: len(logits)], case.precision)
        for engine, logits in found.items()
    }


def measure(
    case: Case,
    points: Sequence[Point],
    judgements: Mapping[str, Judgement | str],
    setting: Setting,
    progress: Callable[[Step], None],
) -> Outcome:
    """Time all engines that have answers, interleaved; those with wrong ones too, but they are not compared."""
    timed = [point for point in points if not isinstance(judgements[point.engine], str)]
    timed = [point for point in timed if point.engine != EAGER or case.precision == "fp32"]
    run = run_rounds(timed, Plan(setting.rounds, setting.slot_s), progress)
    rows = [_row(measured, judgements[measured.point.engine]) for measured in run.measured]
    rows += [Row(name, (), None, words) for name, words in judgements.items() if isinstance(words, str)]
    reasons = invalid_reasons(run, case.threads, len(setting.pinned(case.threads)), 0.0)
    return Outcome(case, tuple(rows), tuple(reasons))


def _row(measured: Measured, judgement: Judgement | str) -> Row:
    assert not isinstance(judgement, str)
    return Row(measured.point.engine, tuple(measured.round_medians_s), judgement, judgement.why)
