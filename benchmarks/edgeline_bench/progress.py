"""What a person sees while a benchmark runs: a bar in a terminal, a line per round in a log. All on stderr."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from edgeline_bench.rounds import Step


class StepPrinter:
    """Call it with each Step. A context manager, so that the bar is taken down on errors and Ctrl-C too."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._live = self._console.is_terminal
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[point]}"), TimeRemainingColumn(),
            console=self._console, transient=True, disable=not self._live,
        )  # fmt: skip
        self._task = self._bar.add_task("starting", total=None, point="")
        self._last = ""

    def __enter__(self) -> StepPrinter:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def __call__(self, step: Step) -> None:
        """Move the bar; in a log, print one line per worker started and one per round."""
        what = step.what
        self._bar.update(self._task, description=what, total=step.total, completed=step.done, point=step.point.title)
        in_a_round = what.startswith("round")
        if not self._live and not (in_a_round and what == self._last):
            self._console.print(what if in_a_round else f"{what}  {step.point.title}")
        self._last = what
