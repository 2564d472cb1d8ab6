import io
import re
import sys

import pytest
from rich.console import Console

from edgeline.command import note
from edgeline_train.live import LiveObserver
from edgeline_train.observer import Epoch, Step


def step(epoch, number, epochs=3, steps=100):
    return Step(epoch, epochs, number, steps, (epoch - 1) * steps + number, 0.5, 0.75, 1234.5, 0.01)


def epoch(number, accuracy=0.5):
    return Epoch(number, 0.4321, 0.8, 0.4, accuracy, 1234.5, 61.0, number * 100)


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def screen_of(raw):
    """What a terminal shows in the end: the few control sequences that rich's Live uses."""
    lines, row, column = [""], 0, 0
    for token in re.findall(r"\x1b\[[?0-9;]*[A-Za-z]|[\r\n]|[^\x1b\r\n]+", raw):
        if token == "\r":
            column = 0
        elif token == "\n":
            row, column = row + 1, 0
            lines += [""] * (row + 1 - len(lines))
        elif token.endswith("A") and token[0] == "\x1b":
            row -= int(token[2:-1] or 1)
        elif token.endswith("K") and token[0] == "\x1b":
            lines[row] = ""
        elif token[0] == "\x1b":
            assert token[-1] in "mhl", token
        else:
            line = lines[row].ljust(column)
            lines[row] = line[:column] + token + line[column + len(token) :]
            column += len(token)
    return [line.rstrip() for line in lines]


def terminal(width=80, height=30):
    return Console(
        file=io.StringIO(), force_terminal=True, width=width, height=height, highlight=False, _environ={"TERM": "xterm"}
    )


def test_a_log_gets_a_line_per_epoch_and_one_each_ten_seconds(capsys):
    clock = Clock()
    with LiveObserver(clock=clock) as live:
        for number in range(1, 101):
            clock.now += 0.25
            live.on_step(step(1, number))
        live.on_epoch(epoch(1, 0.875), 3, None)
        live.on_step(step(2, 1))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "epoch 1/3  step 41/100  loss 0.5000  accuracy 0.7500  1,234 examples/s",
        "epoch 1/3  step 82/100  loss 0.5000  accuracy 0.7500  1,234 examples/s",
        "epoch 1/3  loss 0.4321  test accuracy 0.8750  1,234 examples/s",
    ]


def test_a_log_stays_plain_where_colours_are_forced(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "20")
    with LiveObserver() as live:
        live.on_step(step(1, 1))
        live.on_epoch(epoch(1), 3, None)
    err = capsys.readouterr().err
    assert "\x1b" not in err
    assert err.splitlines() == ["epoch 1/3  loss 0.4321  test accuracy 0.5000  1,234 examples/s"]


def test_a_terminal_shows_bars_with_the_time_left(monkeypatch):
    console, clock = terminal(), Clock()
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with LiveObserver(console, clock) as live:
        live.on_step(step(1, 50))
        clock.now = 10.0
        live.on_step(step(2, 50))  # 100 steps in 10 s: 50 more in 5 s, 150 more in 15 s
        lines = screen_of(console.file.getvalue())
    assert re.search(r"^epoch 2/3 .* step 50/100 +5 s left$", lines[0])
    assert re.search(r"^run .* 50% +15 s left$", lines[1])
    assert lines[2] == "loss 0.5000  accuracy 0.7500  1,234 examples/s  lr 0.01"
    assert all(len(line) <= 80 for line in lines)


def test_a_resumed_run_counts_the_time_left_from_its_own_start(monkeypatch):
    console, clock = terminal(), Clock()
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with LiveObserver(console, clock) as live:
        live.on_step(step(3, 10))
        clock.now = 60.0
        live.on_step(step(3, 40))  # 30 steps in 60 s: 60 more in 120 s
        assert screen_of(console.file.getvalue())[0].endswith("2:00 left")


def test_the_table_keeps_the_last_epochs_and_the_best(monkeypatch):
    console = terminal()
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with LiveObserver(console) as live:
        for number in range(1, 13):
            live.on_step(step(number, 100, epochs=12))
            live.on_epoch(epoch(number, 0.9 if number == 3 else 0.5), 12, None)
    lines = screen_of(console.file.getvalue())
    rows = [line.split() for line in lines if re.match(r" *\d", line)]
    assert [int(row[0]) for row in rows] == [3, *range(5, 13)]
    assert [row[-1] == "best" for row in rows] == [True] + [False] * 8
    assert rows[0] == ["3", "0.4321", "0.8000", "0.4000", "0.9000", "1,234", "1:01", "best"]
    assert not any("left" in line or "run" in line for line in lines)  # the bars are gone


def test_of_equally_good_epochs_the_one_that_training_keeps_is_the_best(monkeypatch):
    console = terminal()
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with LiveObserver(console) as live:
        live.on_epoch(epoch(1), 3, None)
        live.on_epoch(epoch(2), 3, None)
    assert [line.split()[0] for line in screen_of(console.file.getvalue()) if line.endswith("best")] == ["1"]


@pytest.mark.parametrize("width", [40, 60, 77, 80, 200])
def test_no_figure_is_cut(width, monkeypatch):
    console = terminal(width)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with LiveObserver(console) as live:
        live.on_epoch(Epoch(100, 12.3456, 0.8, 12.3456, 0.9, 1234567.8, 36_000, 10), 100, None)
    lines = screen_of(console.file.getvalue())
    assert max(map(len, lines)) <= width
    assert "12.3456" in lines[2]
    assert not any("…" in line for line in lines)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
@pytest.mark.parametrize("epochs", [0, 1])
def test_the_display_is_taken_down_on_errors(error, epochs, monkeypatch):
    console, ours = terminal(), io.StringIO()
    monkeypatch.setattr(sys, "stderr", ours)
    with pytest.raises(error), LiveObserver(console) as live:
        for number in range(1, epochs + 1):
            live.on_epoch(epoch(number), 3, None)
        live.on_step(step(epochs + 1, 1))
        raise error
    assert sys.stderr is ours
    raw = console.file.getvalue()
    assert raw.rindex("\x1b[?25h") > raw.rindex("\x1b[?25l")  # the cursor is back
    shown = [line for line in screen_of(raw) if line]
    assert len(shown) == (3 if epochs else 0)  # headings, rule, one epoch; or nothing


def test_a_note_appears_above_the_display_and_does_not_tear_it(monkeypatch):
    console = terminal()
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with LiveObserver(console) as live:
        live.on_step(step(1, 1))
        note("the disk is nearly full")
        live.on_step(step(1, 100))
        lines = screen_of(console.file.getvalue())
    assert lines[0] == "the disk is nearly full"
    assert [line.split()[0] for line in lines[1:] if line] == ["epoch", "run", "loss"]


def test_what_is_printed_as_data_stays_on_stdout(monkeypatch, capsys):
    console = terminal()
    with LiveObserver(console) as live:
        live.on_step(step(1, 1))
        print("data")
    assert capsys.readouterr().out == "data\n"
    assert "data" not in console.file.getvalue()


def test_closing_twice_is_harmless(monkeypatch):
    console = terminal()
    with LiveObserver(console) as live:
        live.on_step(step(1, 1))
        live.close()
        before = console.file.getvalue()
    assert console.file.getvalue() == before
