"""Writing so that nothing is ever half-written: a file or a folder appears whole, or not at all."""

from __future__ import annotations

import contextlib
import ctypes
import glob
import hashlib
import itertools
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2  # renameat2(2): swap two paths in one step
_numbers = itertools.count()
_in_use: set[str] = set()  # the temporary folders that this process is writing


def sha256_of_file(path: Path) -> str:
    """Return the SHA-256 of a file's content as 64 hex digits."""
    with path.open("rb") as stream:
        return sha256_of_stream(stream)


def sha256_of_stream(stream: BinaryIO) -> str:
    """Return the SHA-256 of what is left to read in `stream`, as 64 hex digits."""
    digest = hashlib.sha256()  # hashlib.file_digest would be shorter; Python 3.10 (JetPack 6) lacks it
    while block := stream.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write `content` beside `path`, flush it to the disk, then rename it into place (mode as umask says).

    Raises OSError when the disk is full or the folder cannot be written; `path` is then as it was before.
    """
    with atomic_path(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a path to write; on success it is flushed and renamed to `path`, on any failure it is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_stale(path)
    temporary = _temporary(path)
    _in_use.add(temporary.name)
    try:
        yield temporary
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
        _in_use.discard(temporary.name)


@contextlib.contextmanager
def atomic_folder(path: Path, beside: Path | None = None) -> Iterator[Path]:
    """Yield a fresh folder beside `path`; on success it takes the place of `path` in one step.

    What stood at `path` before stays whole until that step and is removed after it. On any failure, Ctrl-C included,
    the new folder is removed and `path` is as it was. It is written beside `beside` where the folder of `path` is
    watched by somebody who would take an unfinished one for his; that must be on the same file system.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_stale(beside or path)
    temporary = _temporary(beside or path)
    _in_use.add(temporary.name)
    try:
        temporary.mkdir()
        yield temporary
        for file in temporary.rglob("*"):
            _flush(file)
        if path.exists():
            _exchange(temporary, path)
        else:
            temporary.rename(path)
        _flush(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        _in_use.discard(temporary.name)


def _temporary(path: Path) -> Path:
    """Name a place beside `path` that no other thread and no other running process uses."""
    return path.with_name(f".{path.name}.{os.getpid()}-{next(_numbers)}.tmp")


def _remove_stale(path: Path) -> None:
    """Remove what an earlier process left when it was killed (kill -9) while it wrote `path`."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        owner = left.name.removesuffix(".tmp").rpartition(".")[2].partition("-")[0]
        # Our own number may be an earlier process's, too: a container starts with the same ones each time.
        if owner.isdigit() and left.name not in _in_use and (int(owner) == os.getpid() or not _is_running(int(owner))):
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                with contextlib.suppress(OSError):
                    left.unlink()


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _exchange(new: Path, old: Path) -> None:
    """Swap two folders in one step where the kernel and file system can, in two renames elsewhere."""
    libc = ctypes.CDLL(None, use_errno=True)
    if hasattr(libc, "renameat2") and (
        libc.renameat2(_AT_FDCWD, os.fsencode(new), _AT_FDCWD, os.fsencode(old), _RENAME_EXCHANGE) == 0
    ):
        return
    aside = old.with_name(f"{new.name}.old")
    old.rename(aside)
    try:
        new.rename(old)
    except OSError:
        aside.rename(old)
        raise
    aside.rename(new)  # the caller removes what now stands at `new`
