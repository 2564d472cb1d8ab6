import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from edgeline import cache
from edgeline.errors import ResourceError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGELINE_CACHE", str(tmp_path / "cache"))
    return cache.cache_folder("plans")


@pytest.mark.parametrize(
    ("variables", "place"),
    [
        ({"EDGELINE_CACHE": "{tmp}/own", "XDG_CACHE_HOME": "{tmp}/xdg"}, "own/plans"),
        ({"XDG_CACHE_HOME": "{tmp}/xdg"}, "xdg/edgeline/plans"),
        ({"XDG_CACHE_HOME": "relative"}, "home/.cache/edgeline/plans"),
        ({}, "home/.cache/edgeline/plans"),
    ],
)
def test_where_it_is(tmp_path, monkeypatch, variables, place):
    for name in ("EDGELINE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(tmp=tmp_path))
    assert cache.cache_folder("plans") == tmp_path / place
    assert (tmp_path / place).is_dir()


def test_nobody_else_may_look_or_write_whatever_the_umask_is(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGELINE_CACHE", str(tmp_path / "cache"))
    before = os.umask(0)
    try:
        folder = cache.cache_folder("plans")
    finally:
        os.umask(before)
    assert [path.stat().st_mode & 0o777 for path in (folder.parent, folder)] == [0o700, 0o700]


@pytest.mark.parametrize(("which", "mode"), [("parent", 0o777), ("parent", 0o770), ("own", 0o702)])
def test_a_folder_that_others_may_write_is_refused(folder, which, mode):
    open_one = folder.parent if which == "parent" else folder
    open_one.chmod(mode)
    with pytest.raises(ResourceError, match=rf"{open_one} may be written by others \(mode {mode:o}\).*chmod go-w"):
        cache.cache_folder("plans")


def test_a_folder_of_somebody_else_is_refused(folder, monkeypatch):
    me = os.geteuid()
    monkeypatch.setattr(cache.os, "geteuid", lambda: me + 1)
    with pytest.raises(ResourceError, match=f"belongs to user {me}, you are {me + 1}.*export EDGELINE_CACHE="):
        cache.cache_folder("plans")


def test_a_file_in_the_way_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        monkeypatch.setenv("EDGELINE_CACHE", str(place))
        with pytest.raises(ResourceError, match=f"{place} cannot be made .*export EDGELINE_CACHE="):
            cache.cache_folder("plans")


def test_what_was_written_is_read_and_stands_alone(folder):
    path = folder / "a.plan"
    cache.write_checked(path, b"content")
    assert cache.read_checked(path) == b"content"
    assert cache.is_whole(path)
    assert path.read_bytes() == b"content"  # nothing glued to it: any tool can read the file
    cache.write_checked(path, b"other")
    assert cache.read_checked(path) == b"other"


def test_what_is_not_there_is_none(folder):
    assert cache.read_checked(folder / "a.plan") is None
    assert not cache.is_whole(folder / "a.plan")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.plan", b"contenu"),
        ("a.plan", b"conten"),
        ("a.plan", b""),
        ("a.plan", None),
        ("a.plan.sha256", b"0" * 64),
        ("a.plan.sha256", b""),
        ("a.plan.sha256", b"\xff\xfe"),
        ("a.plan.sha256", None),
    ],
)
def test_what_is_damaged_is_none(folder, name, content):
    path = folder / "a.plan"
    cache.write_checked(path, b"content")
    (folder / name).unlink() if content is None else (folder / name).write_bytes(content)
    assert cache.read_checked(path) is None
    assert not cache.is_whole(path)


def test_a_write_that_is_cut_off_between_content_and_hash_is_not_read(folder, monkeypatch):
    path = folder / "a.plan"
    cache.write_checked(path, b"old")
    real, calls = cache.write_atomically, []

    def killed_at_the_second(target, content):
        calls.append(target)
        if len(calls) == 2:
            raise KeyboardInterrupt
        real(target, content)

    monkeypatch.setattr(cache, "write_atomically", killed_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        cache.write_checked(path, b"new")
    assert cache.read_checked(path) is None


HOLD = """
import sys, time
from pathlib import Path
from edgeline.cache import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(folder):
    """Another process that holds the lock of a.plan."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder / "a.plan")], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_lock_goes_with_the_process_that_holds_it(folder, holder, capsys):
    """Also with kill -9, which no `finally` sees."""
    threading.Timer(0.3, holder.send_signal, [signal.SIGKILL]).start()
    started = time.monotonic()
    with cache.locked(folder / "a.plan"):
        waited = time.monotonic() - started
    assert waited > 0.2
    assert capsys.readouterr().err == "waiting for another process that is making a.plan\n"


def test_the_lock_of_another_file_is_free(folder, holder, capsys):
    with cache.locked(folder / "b.plan"):
        pass
    assert capsys.readouterr().err == ""


def test_threads_take_turns_too(folder):
    inside, most = [0], [0]

    def work():
        with cache.locked(folder / "a.plan"):
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            time.sleep(0.02)
            inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]
