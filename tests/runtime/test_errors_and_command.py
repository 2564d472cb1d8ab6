import argparse
import contextlib
import errno
import os
import signal
import time

import pytest

from edgeline import errors, interrupts
from edgeline.command import Parser, run_command, share


def all_errors(kind=errors.EdgelineError):
    yield kind
    for child in kind.__subclasses__():
        yield from all_errors(child)


def test_every_error_has_an_exit_code_of_the_table():
    assert {error.exit_code for error in all_errors()} == {1, 2, 3, 4, 70}


def test_an_unknown_name_offers_the_nearest():
    assert str(errors.UnknownNameError("model", "lennet", ["lenet", "alexnet"])) == (
        "unknown model 'lennet' (did you mean lenet or alexnet?); known: alexnet, lenet"
    )
    assert "did you mean" not in str(errors.UnknownNameError("model", "qqqq", ["lenet"]))


def raising(error):
    def body(_args):
        raise error

    return body


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (errors.GateError("too bad"), 1, "try: too bad"),
        (errors.InputError("no such"), 2, "try: no such"),
        (errors.MissingCapabilityError("install it"), 3, "try: install it"),
        (errors.ResourceError("gone"), 4, "try: gone"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "weights/x"), 4, "the disk is full (weights/x)"),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), 4, "Permission denied (/x)"),
        (MemoryError(), 4, "out of memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to"), 4, "out of memory"),
        (FileExistsError(errno.EEXIST, "File exists", "/etc/passwd"), 2, "/etc/passwd is in the way (File exists)"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_errors_become_one_line_and_an_exit_code(error, code, words, capsys):
    assert run_command(Parser("try", "x"), raising(error), []) == code
    err = capsys.readouterr().err
    assert words in err
    assert err.count("\n") == 1


def test_sigterm_cleans_up_like_ctrl_c(capsys):
    def body(_args):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)

    before = signal.getsignal(signal.SIGTERM)
    assert run_command(Parser("try", "x"), body, []) == 130
    assert signal.getsignal(signal.SIGTERM) is before


def press_ctrl_c():
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.05)


def swallowed(_args):
    with contextlib.suppress(BaseException):
        press_ctrl_c()


def turned_into_another_error(_args):
    try:
        press_ctrl_c()
    except BaseException:
        raise errors.InputError("a library's own words") from None


def held_back(_args):
    steps.append("before")
    with interrupts.held():
        press_ctrl_c()
        steps.append("inside")
    steps.append("after")


steps = []


@pytest.mark.parametrize("body", [lambda _args: press_ctrl_c(), swallowed, turned_into_another_error, held_back])
def test_ctrl_c_counts_whatever_a_library_makes_of_it(body, capsys):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert run_command(Parser("try", "x"), body, []) == 130
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert capsys.readouterr().err == "try: interrupted\n"


def test_a_held_interrupt_strikes_at_the_end_of_the_block():
    steps.clear()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        run_command(Parser("try", "x"), held_back, [])
    finally:
        signal.signal(signal.SIGINT, before)
    assert steps == ["before", "inside"]


def test_an_ignored_ctrl_c_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert run_command(Parser("try", "x"), lambda _args: press_ctrl_c(), []) == 0
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(("text", "value"), [("5%", 0.05), ("0.05", 0.05), ("0", 0.0), ("100%", 1.0)])
def test_shares(text, value):
    assert share(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["5", "-1%", "x", "", "nan"])
def test_what_is_no_share(text):
    with pytest.raises(argparse.ArgumentTypeError, match="expected a share like 5% or 0.05"):
        share(text)


def test_a_fault_of_ours_is_70_and_shows_where(capsys):
    assert run_command(Parser("try", "x"), raising(ZeroDivisionError("oops")), []) == 70
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert "this is a fault of edgeline" in err


def test_bad_options_are_one_line_and_exit_2(capsys):
    parser = Parser("try", "x")
    parser.add_argument("--number", type=int)
    assert run_command(parser, lambda _args: 0, ["--number", "many"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "try --help" in err


def test_help_shows_defaults_but_not_of_flags(capsys):
    parser = Parser("try", "x")
    parser.add_argument("--size", type=int, default=3, help="how large")
    parser.add_argument("--json", action="store_true", help="print JSON")
    assert run_command(parser, lambda _args: 0, ["--help"]) == 0
    out = capsys.readouterr().out
    assert "how large (default: 3)" in out
    assert "print JSON\n" in out


def test_a_reader_that_goes_away_is_no_error(monkeypatch):
    duplicated = []
    monkeypatch.setattr(os, "dup2", lambda *pair: duplicated.append(pair))
    assert run_command(Parser("try", "x"), raising(BrokenPipeError()), []) == 0
    assert duplicated


def test_the_body_returns_the_exit_code():
    assert run_command(Parser("try", "x"), lambda _args: 1, []) == 1
    assert run_command(Parser("try", "x"), lambda args: isinstance(args, argparse.Namespace) and None, []) == 0
