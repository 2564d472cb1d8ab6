"""What a person sees while a network trains: a live bar in a terminal, plain lines in a log. All on stderr."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from edgeline_train.loop import Progress

_LOG_INTERVAL_S = 10.0  # in a log, an epoch longer than this still says that it moves


class ProgressPrinter:
    """Call it with each Progress. A context manager, so that the bar is taken down on errors and Ctrl-C too."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._live = self._console.is_terminal
        self._bar = Bar(
            TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[figures]}"), TimeRemainingColumn(),
            console=self._console, transient=True, disable=not self._live,
        )  # fmt: skip
        self._task = self._bar.add_task("starting", total=None, figures="")
        self._last_line = time.monotonic()

    def __enter__(self) -> ProgressPrinter:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def __call__(self, progress: Progress) -> None:
        """Move the bar; print one line per epoch, and in a log also one each ten seconds."""
        width = len(str(progress.epochs))
        rate = f"{progress.examples_per_s:,.0f} examples/s"
        if progress.accuracy is not None:
            self._line(
                f"epoch {progress.epoch:>{width}}/{progress.epochs}  loss {progress.loss:.4f}  "
                f"test accuracy {progress.accuracy:.4f}  {rate}"
            )
            return
        self._bar.update(
            self._task,
            description=f"epoch {progress.epoch + 1}/{progress.epochs}",
            total=progress.epochs * progress.steps,
            completed=progress.epoch * progress.steps + progress.step,
            figures=f"loss {progress.loss:.4f}  accuracy {progress.train_accuracy:.4f}  {rate}",
        )
        if not self._live and time.monotonic() - self._last_line > _LOG_INTERVAL_S:
            self._line(
                f"epoch {progress.epoch + 1:>{width}}/{progress.epochs}  step {progress.step}/{progress.steps}  "
                f"loss {progress.loss:.4f}  accuracy {progress.train_accuracy:.4f}  {rate}"
            )

    def _line(self, text: str) -> None:
        self._last_line = time.monotonic()
        self._console.print(text)
