import io

import numpy as np
import pytest
from rich.console import Console

from edgeline_train.confusion import confusion_table, most_confused, print_confusion
from edgeline_train.data import DATASETS

CLOTHES = DATASETS["fashion-mnist"].labels
ANIMALS = ("cat", "dog", "cow")
# Rows are the true classes. Recall: 8/10, 3/6, -; precision: 8/11, 3/5, 0/0.
MATRIX = [[8, 2, 0], [3, 3, 0], [0, 0, 0]]


def text_of(table, width):
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(table)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_the_table_says_counts_recall_and_precision():
    lines = text_of(confusion_table(MATRIX, ANIMALS, 80), 80)
    words = [line.split() for line in lines]
    assert words[1] == ["cat", "dog", "cow", "recall"]
    assert words[3:6] == [["cat", "8", "2", ".", "80.0"], ["dog", "3", "3", ".", "50.0"], ["cow", ".", ".", "0", "-"]]
    assert ["precision", "72.7", "60.0", "-"] in words
    assert lines[-2:] == ["dog taken for cat 3 times", "cat taken for dog 2 times"]


def test_confusions_in_words_the_worst_first():
    assert most_confused([[5, 1, 0], [0, 5, 121], [7, 0, 5]], ("shirt", "bag", "coat"), count=5) == [
        "bag taken for coat 121 times",
        "coat taken for shirt 7 times",
        "shirt taken for bag 1 time",
    ]
    assert most_confused(np.eye(3), ANIMALS) == []


def test_a_perfect_network_is_told_so():
    assert text_of(confusion_table(np.eye(3), ANIMALS, 80), 80)[-1] == "no example was taken for another class's"


@pytest.mark.parametrize(("width", "marked"), [(80, False), (120, False), (120, True)])
@pytest.mark.parametrize("names", [CLOTHES, DATASETS["mnist"].labels], ids=["clothes", "digits"])
def test_ten_classes_fit_whole(width, marked, names):
    lines = text_of(confusion_table(np.full((10, 10), 1000), names, width, marked), width)
    assert max(map(len, lines)) <= width
    assert not any("…" in line for line in lines)
    assert sum("1000" in line and "taken" not in line for line in lines) == 10
    assert all(any(line.startswith(f"{name} ") for line in lines) for name in names)
    if width == 120:
        assert " ".join(names) in " ".join(
            next(line for line in lines if "recall" in line and "true" not in line).split()
        )


def test_the_diagonal_is_marked_where_there_is_no_bold():
    lines = text_of(confusion_table(np.diag([7, 8, 9]), ANIMALS, 80, marked=True), 80)
    assert [f"[{n}]" for n in (7, 8, 9)] == [word for line in lines for word in line.split() if word.startswith("[")]


def test_many_classes_get_a_row_each():
    matrix = np.diag([5] * 40)
    matrix[3, 4] = 2
    lines = text_of(confusion_table(matrix, [f"c{i}" for i in range(40)], 80), 80)
    assert next(line for line in lines if line.startswith("c3 ")).split() == ["c3", "7", "71.4", "100.0", "c4", "(2)"]
    assert max(map(len, lines)) <= 80


def test_a_log_is_plain_and_on_stderr(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "40")
    print_confusion(np.full((10, 10), 1000), CLOTHES)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "\x1b" not in captured.err
    assert "[1000]" in captured.err
    assert 80 < max(map(len, captured.err.splitlines())) <= 120


def test_a_terminal_has_the_diagonal_bold():
    console = Console(file=io.StringIO(), force_terminal=True, width=80, highlight=False, _environ={"TERM": "xterm"})
    print_confusion(np.full((10, 10), 1000), CLOTHES, console)
    assert console.file.getvalue().count("\x1b[1;32m") == 10
