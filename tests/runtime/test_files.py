import errno
import os
import threading

import pytest

from edgeline import files


def leftovers(folder):
    return [path.name for path in folder.iterdir() if path.name.endswith((".tmp", ".old"))]


def full_disk(_descriptor):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "report.json"
    files.write_atomically(path, "old")
    monkeypatch.setattr(files.os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        files.write_atomically(path, "new")
    assert path.read_text() == "old"
    assert leftovers(tmp_path) == []


def test_a_folder_takes_the_place_of_the_old_one_in_one_step(tmp_path):
    place = tmp_path / "artefact"
    for version in ("one", "two"):
        with files.atomic_folder(place) as folder:
            (folder / version).write_text(version)
            if version == "two":
                assert (place / "one").exists()  # the old one stays loadable until the exchange
    assert [path.name for path in place.iterdir()] == ["two"]
    assert leftovers(tmp_path) == []


def test_a_folder_is_put_together_beside_another_place(tmp_path):
    watched = tmp_path / "watched"
    left = tmp_path / ".elsewhere.999999999-0.tmp"  # of a process that is gone
    left.mkdir()
    for version in ("one", "two"):
        with files.atomic_folder(watched / "a", beside=tmp_path / "elsewhere") as folder:
            assert folder.parent == tmp_path
            assert [path.name for path in watched.iterdir()] == (["a"] if version == "two" else [])
            (folder / version).touch()
    assert [path.name for path in (watched / "a").iterdir()] == ["two"]
    assert leftovers(tmp_path) == leftovers(watched) == []


def test_a_reader_never_finds_the_place_empty(tmp_path):
    """Readers look while folders are exchanged; with two renames instead of one step they would find nothing."""
    place = tmp_path / "artefact"
    with files.atomic_folder(place) as folder:
        (folder / "manifest.json").touch()
    looks, missing, stop = [0], [0], threading.Event()

    def look():
        while not stop.is_set():
            looks[0] += 1
            missing[0] += not os.path.exists(place)

    reader = threading.Thread(target=look)
    reader.start()
    for _ in range(200):
        with files.atomic_folder(place) as folder:
            (folder / "manifest.json").touch()
    stop.set()
    reader.join()
    assert looks[0] > 100
    assert missing[0] == 0


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_a_folder_that_fails_leaves_the_old_one(tmp_path, error):
    place = tmp_path / "artefact"
    with files.atomic_folder(place) as folder:
        (folder / "good").write_text("good")
    with pytest.raises(error), files.atomic_folder(place) as folder:
        (folder / "half").write_text("half")
        raise error
    assert [path.name for path in place.iterdir()] == ["good"]
    assert leftovers(tmp_path) == []


def test_the_exchange_works_without_renameat2(tmp_path, monkeypatch):
    class Libc:
        def __init__(self, *_args, **_keywords):
            pass

    monkeypatch.setattr(files.ctypes, "CDLL", Libc)
    place = tmp_path / "artefact"
    for version in ("one", "two"):
        with files.atomic_folder(place) as folder:
            (folder / version).touch()
    assert [path.name for path in place.iterdir()] == ["two"]
    assert leftovers(tmp_path) == []


def test_sha256_is_the_published_one_of_abc(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")  # FIPS 180-2, appendix B.1
    assert files.sha256_of_file(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


# --- several threads and processes ------------------------------------------------------------------------------------


def test_threads_that_write_one_file_do_not_meet(tmp_path):
    """With one temporary name for both, the first to end takes the other's file away."""
    both, errors = threading.Barrier(2, timeout=20), []

    def write(content):
        try:
            with files.atomic_path(tmp_path / "report.json") as temporary:
                temporary.write_text(content)
                both.wait()
        except OSError as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(content,)) for content in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert (tmp_path / "report.json").read_text() in ("one", "two")
    assert leftovers(tmp_path) == []


def test_threads_that_write_one_folder_do_not_meet(tmp_path):
    with files.atomic_folder(tmp_path / "a") as first:
        (first / "one").touch()
        with files.atomic_folder(tmp_path / "a") as second:
            (second / "two").touch()
        assert (first / "one").exists()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["one"]


@pytest.mark.parametrize(
    ("owner", "stays"), [("999999999", False), (str(os.getpid()), False), ("1", True), ("x", True)]
)
def test_what_a_killed_process_left_is_removed(tmp_path, owner, stays):
    """Also where it had our number: in a container every start has the same ones."""
    left = tmp_path / f".a.{owner}-99999.tmp"
    left.mkdir()
    with files.atomic_folder(tmp_path / "a"):
        pass
    assert left.exists() is stays
