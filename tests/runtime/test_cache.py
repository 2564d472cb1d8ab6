import errno
import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

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


@pytest.mark.parametrize("content", [b"contenu", b"conten", b"", None])
def test_what_is_damaged_is_none(folder, content):
    path = folder / "a.plan"
    cache.write_checked(path, b"content")
    path.resolve().unlink() if content is None else path.write_bytes(content)
    assert cache.read_checked(path) is None
    assert not cache.is_whole(path)
    assert cache.is_cached(path)
    cache.write_checked(path, b"content")  # the same again mends it
    assert cache.read_checked(path) == b"content"


@pytest.mark.parametrize("target", [None, "b.plan.{digest}", "../plans/a.plan.{digest}", "a.plan.nothex"])
def test_a_link_that_is_not_ours_is_not_followed(folder, target):
    """Also where what it leads to has the content that it should have."""
    path, digest = folder / "a.plan", hashlib.sha256(b"content").hexdigest()
    for name in ("a.plan", "b.plan"):
        cache.write_checked(folder / name, b"content")
    path.unlink()
    path.write_bytes(b"content") if target is None else path.symlink_to(target.format(digest=digest))
    assert cache.read_checked(path) is None
    assert not cache.is_whole(path)
    cache.write_checked(path, b"content")
    assert cache.read_checked(path) == b"content"


# --- writes that are cut off, and several at once ---------------------------------------------------------------------


@pytest.mark.parametrize("step", range(1, 8))
def test_a_write_that_is_cut_off_at_any_step_leaves_the_old_or_the_new(folder, monkeypatch, step):
    path, steps = folder / "a.plan", []
    cache.write_checked(path, b"old")

    def cut_off(real):
        def call(*arguments, **keywords):
            steps.append(real.__name__)
            if len(steps) == step:
                raise KeyboardInterrupt
            return real(*arguments, **keywords)

        return call

    with monkeypatch.context() as patch:
        for name in ("open", "write_bytes", "replace", "symlink_to", "unlink"):
            patch.setattr(Path, name, cut_off(getattr(Path, name)))
        with pytest.raises(KeyboardInterrupt):
            cache.write_checked(path, b"new")
    assert cache.read_checked(path) in (b"old", b"new")
    cache.write_checked(path, b"newest")
    assert names_in(folder) == ["a.plan", f"a.plan.{hashlib.sha256(b'newest').hexdigest()}"]


def names_in(folder):
    return sorted(entry.name for entry in folder.iterdir() if entry.suffix != ".lock")


SIZE = 2_000_000
WRITE = f"""
import sys
from pathlib import Path
from edgeline.cache import write_checked
print("ready", flush=True)
for turn in range(int(sys.argv[2])):
    write_checked(Path(sys.argv[1]), bytes([turn % 2]) * {SIZE})
"""
CONTENTS = (bytes(SIZE), bytes([1]) * SIZE)


def writer(path, turns):
    process = subprocess.Popen([sys.executable, "-c", WRITE, str(path), str(turns)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    return process


def test_a_reader_beside_a_writer_finds_the_old_or_the_new(folder):
    path = folder / "a.plan"
    cache.write_checked(path, CONTENTS[0])
    process, reads = writer(path, 60), 0
    while process.poll() is None:
        assert cache.read_checked(path) in CONTENTS
        assert cache.is_whole(path)
        reads += 1
    process.communicate()
    assert (process.returncode, reads > 5) == (0, True)


def test_a_reader_that_looked_just_before_a_write_looks_again(folder, monkeypatch):
    path, real, opened = folder / "a.plan", Path.open, []
    cache.write_checked(path, b"old")
    old = path.resolve()

    def late(self, *arguments, **keywords):
        if self == old and not opened:
            opened.append(self)
            cache.write_checked(path, b"new")  # which removes the old content
        return real(self, *arguments, **keywords)

    monkeypatch.setattr(Path, "open", late)
    assert cache.read_checked(path) == b"new"
    assert opened == [old]


def test_a_writer_that_is_killed_leaves_the_old_or_the_new(folder):
    path = folder / "a.plan"
    cache.write_checked(path, CONTENTS[0])
    for turn in range(8):
        process = writer(path, 10_000)
        time.sleep(0.005 * turn)
        process.kill()
        process.communicate()
        assert cache.read_checked(path) in CONTENTS
    cache.write_checked(path, b"newest")
    assert names_in(folder) == ["a.plan", f"a.plan.{hashlib.sha256(b'newest').hexdigest()}"]


def test_processes_that_write_at_once_take_turns(folder):
    """As sessions do that keep the kernels which TensorRT-RTX compiled."""
    path = folder / "a.bin"
    processes = [writer(path, 20) for _ in range(3)]
    for process in processes:
        process.communicate(timeout=60)
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert cache.read_checked(path) in CONTENTS
    assert len(names_in(folder)) == 2


def test_threads_that_write_at_once_take_turns(folder):
    path, errors = folder / "a.bin", []

    def write(number):
        try:
            for _ in range(20):
                cache.write_checked(path, bytes([number]) * 300_000)
        except OSError as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert cache.read_checked(path) in [bytes([number]) * 300_000 for number in range(3)]
    assert len(names_in(folder)) == 2


def test_a_write_removes_what_is_old_and_nothing_else(folder):
    for name in ("a.plan", "b.plan"):
        cache.write_checked(folder / name, b"content")
    (folder / ".a.plan.123-0.tmp").touch()
    (folder / f"c.plan.{'0' * 64}").touch()
    (folder / "note.txt").touch()
    cache.write_checked(folder / "a.plan", b"other")
    digests = [hashlib.sha256(content).hexdigest() for content in (b"other", b"content")]
    assert names_in(folder) == ["a.plan", f"a.plan.{digests[0]}", "b.plan", f"b.plan.{digests[1]}", "note.txt"]


def test_a_full_disk_leaves_the_old(folder, monkeypatch):
    path = folder / "a.plan"
    cache.write_checked(path, b"old")

    def full(_descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("edgeline.files.os.fsync", full)
        with pytest.raises(OSError, match="No space left"):
            cache.write_checked(path, b"new")
    assert cache.read_checked(path) == b"old"
    assert len(names_in(folder)) == 2


# --- looking without making -------------------------------------------------------------------------------------------


def test_looking_for_a_folder_makes_none(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGELINE_CACHE", str(tmp_path / "cache"))
    assert cache.existing_cache_folder("plans") is None
    assert not (tmp_path / "cache").exists()
    made = cache.cache_folder("plans")
    assert cache.existing_cache_folder("plans") == made
    assert cache.existing_cache_folder("others") is None
    made.chmod(0o777)
    with pytest.raises(ResourceError, match="may be written by others"):
        cache.existing_cache_folder("plans")
    (tmp_path / "file").touch()
    monkeypatch.setenv("EDGELINE_CACHE", str(tmp_path / "file"))
    with pytest.raises(ResourceError, match=r"cannot be made: a file is in its place: export EDGELINE_CACHE="):
        cache.existing_cache_folder("plans")


# --- locks ------------------------------------------------------------------------------------------------------------


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


def test_who_does_not_wait_is_told(folder, holder):
    for name, free in (("a.plan", False), ("b.plan", True)):
        with cache.locked_at_once(folder / name) as ours:
            assert ours is free


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
