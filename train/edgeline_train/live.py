"""What a person sees while a network trains: a live display in a terminal, plain lines in a log. All on stderr.

Notes that are printed meanwhile appear above the display: rich stands in for sys.stderr as long as it lasts. It draws
only when it is told something, so that no thread of its own takes time from training.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from types import TracebackType

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text
from torch import nn

from edgeline_train.curve import kept_epoch
from edgeline_train.observer import Epoch, Step

_LOG_INTERVAL_S = 10.0  # in a log, an epoch longer than this still says that it moves
_DRAW_INTERVAL_S = 0.1
_ROWS = 8  # epochs in the table
_OTHER_LINES = 9  # of the display: headings, rules, bars, figures, and one that stays free


def _rate(examples_per_s: float) -> str:
    return f"{examples_per_s:,.0f} examples/s"


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{rest} s" if seconds >= 9.95 or isinstance(seconds, int) else f"{seconds:.1f} s"
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"


_FIGURES: dict[str, Callable[[Epoch], str]] = {
    "epoch": lambda epoch: str(epoch.epoch),
    "train loss": lambda epoch: f"{epoch.train_loss:.4f}",
    "train acc": lambda epoch: f"{epoch.train_accuracy:.4f}",
    "test loss": lambda epoch: f"{epoch.test_loss:.4f}",
    "test acc": lambda epoch: f"{epoch.test_accuracy:.4f}",
    "examples/s": lambda epoch: f"{epoch.examples_per_s:,.0f}",
    "time": lambda epoch: _time(epoch.time_s),
}
_WIDE = 78  # columns that all of them take; a narrower terminal gets a few
_FEW = ("epoch", "train loss", "test loss", "test acc")


class LiveObserver:
    """An Observer that shows. A context manager, so that the display is taken down on errors and Ctrl-C too.

    At the end the table of the last epochs stays. `console` and `clock` (seconds) are for tests.
    """

    def __init__(self, console: Console | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        # rich takes FORCE_COLOR for a terminal, and a log would fill with cursor movements.
        self._console = console or Console(stderr=True, highlight=False, force_terminal=sys.stderr.isatty())
        self._clock = clock
        self._epochs: list[Epoch] = []
        self._first: tuple[float, Step] | None = None  # when the first step was heard of: what ETAs count from
        self._step: Step | None = None
        self._last_output = clock()
        self._live: Live | None = None
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            # stdout is not redirected: it would end up on stderr, and data belongs where it was sent.
            self._live = Live(console=self._console, auto_refresh=False, redirect_stdout=False, redirect_stderr=True)

    def __enter__(self) -> LiveObserver:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Take the bars down and leave the table; a second call does nothing."""
        if self._live is None or not self._live.is_started:
            return
        try:
            self._live.transient = not self._epochs  # nothing to leave: no empty line either
            self._live.update(self._table())
        finally:
            self._live.stop()

    def on_start(self, done: Sequence[Epoch]) -> None:
        """Know the epochs of before: the best may be among them."""
        self._epochs = list(done)

    def on_step(self, step: Step) -> None:
        """Move the bars; in a log, print a line each ten seconds."""
        now = self._clock()
        self._step = step
        if self._first is None:
            self._first = now, step
        if self._live:
            if now - self._last_output >= _DRAW_INTERVAL_S or step.step == step.steps:
                self._draw(now)
        elif now - self._last_output > _LOG_INTERVAL_S:
            self._line(
                f"epoch {step.epoch:>{len(str(step.epochs))}}/{step.epochs}  step {step.step}/{step.steps}  "
                f"loss {step.loss:.4f}  accuracy {step.train_accuracy:.4f}  {_rate(step.examples_per_s)}"
            )

    def on_epoch(self, epoch: Epoch, epochs: int, network: nn.Module) -> None:  # noqa: ARG002 - an Observer's
        """Add the epoch to the table; in a log, print its line."""
        self._epochs.append(epoch)
        if self._live:
            self._draw(self._clock())
        else:
            self._line(
                f"epoch {epoch.epoch:>{len(str(epochs))}}/{epochs}  loss {epoch.train_loss:.4f}  "
                f"test accuracy {epoch.test_accuracy:.4f}  {_rate(epoch.examples_per_s)}"
            )

    def _draw(self, now: float) -> None:
        self._last_output = now
        if self._live:
            bars = self._bars(self._step, now) if self._step else Group()
            self._live.update(Group(self._table(), bars), refresh=True)

    def _line(self, text: str) -> None:
        self._last_output = self._clock()
        self._console.print(text, soft_wrap=True)

    def _table(self) -> RenderableType:
        """Return the last epochs, and the best one above them when it is not among them; nothing before the first."""
        if not self._epochs:
            return Group()
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0), header_style="")
        headings = _FIGURES if self._console.width >= _WIDE else _FEW
        for heading in headings:
            table.add_column(heading, justify="right", no_wrap=True)
        table.add_column()
        best = kept_epoch([asdict(epoch) for epoch in self._epochs])["epoch"]
        last = self._epochs[-max(1, min(_ROWS, self._console.height - _OTHER_LINES)) :]
        earlier = [epoch for epoch in self._epochs if epoch.epoch == best and epoch not in last]
        for epoch in (*earlier, *last):
            mark, style = ("best", "bold green") if epoch.epoch == best else ("", "")
            cells = (_FIGURES[heading](epoch) for heading in headings)
            table.add_row(*cells, mark, style=style, end_section=epoch in earlier)
        return table

    def _bars(self, step: Step, now: float) -> RenderableType:
        done, total = (step.epoch - 1) * step.steps + step.step, step.epochs * step.steps
        bars = Table.grid(padding=(0, 1, 0, 0), expand=True)
        bars.add_column(no_wrap=True)
        bars.add_column(ratio=1)
        bars.add_column(justify="right", no_wrap=True)
        bars.add_column(justify="right", no_wrap=True, min_width=len("0:00:00 left"))
        bars.add_row(
            f"epoch {step.epoch}/{step.epochs}",
            ProgressBar(total=step.steps, completed=step.step),
            f"step {step.step}/{step.steps}",
            self._state(step) or self._left(step, step.steps - step.step, now),
        )
        bars.add_row(
            "run", ProgressBar(total=total, completed=done), f"{100 * done / total:.0f}%",
            self._left(step, total - done, now),
        )  # fmt: skip
        figures = (
            f"loss {step.loss:.4f}  accuracy {step.train_accuracy:.4f}  {_rate(step.examples_per_s)}  lr {step.lr:.3g}"
        )
        return Group(bars, Text(figures, no_wrap=True, overflow="ellipsis"))

    def _state(self, step: Step) -> str:
        """Return what comes after an epoch's last step, "" before it."""
        if step.step < step.steps:
            return ""
        return "done" if self._epochs and self._epochs[-1].epoch == step.epoch else "testing"

    def _left(self, step: Step, steps: int, now: float) -> str:
        """Return the time that so many steps will take at the pace so far, which has the tests between epochs in it."""
        if self._first is None or step.global_step <= self._first[1].global_step:
            return ""
        began, first = self._first
        seconds = (now - began) / (step.global_step - first.global_step) * steps
        return f"{_time(math.ceil(seconds))} left"
