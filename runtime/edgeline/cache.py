"""The cache on this device: files that took work to make, each with its hash, in folders that only their owner writes.

A cached engine may carry code, so a folder of another owner, or one that others may write to, is not used. What is
cached as `a.plan` is a link to `a.plan.<SHA-256>`, which holds the content alone, so that any tool reads it. The link
is swapped in one step once the content is whole: a reader finds the old content or the new one, and its hash with it.
Locks lie beside, in `<name>.lock`. Not here: keys (whoever caches knows what its content depends on), and an age or
size at which files go. The file system must know links, as those of Linux do.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from edgeline.command import note
from edgeline.errors import ResourceError
from edgeline.files import sha256_of_stream, write_atomically

_PRIVATE = 0o700
_CONTENT = re.compile(r"(?P<of>.+)\.[0-9a-f]{64}")
_WRITING = ".writing"  # the name whose lock a write holds, one per folder


def cache_root() -> Path:
    """Return `$EDGELINE_CACHE`, else `$XDG_CACHE_HOME/edgeline`, else `~/.cache/edgeline`; it need not exist."""
    if own := os.environ.get("EDGELINE_CACHE"):
        return Path(own).absolute()
    shared = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # The XDG specification: a relative path there is invalid and is ignored.
    return (shared if shared.is_absolute() else Path("~/.cache").expanduser()) / "edgeline"


def cache_folder(name: str) -> Path:
    """Return the folder `name` of the cache, made with mode 0700 where it is missing.

    Raises ResourceError when the folder, or the cache it lies in, cannot be made or written, belongs to somebody else,
    or may be written by somebody else.
    """
    root = cache_root()
    for folder in (root, root / name):
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            folder.mkdir(mode=_PRIVATE, exist_ok=True)
        except OSError as error:
            raise ResourceError(
                f"the cache folder {folder} cannot be made ({error.strerror}): export EDGELINE_CACHE=/a/folder/of/yours"
            ) from None
        if (reason := why_unsafe(folder)) is not None:
            raise ResourceError(": ".join(reason))
    return root / name


def existing_cache_folder(name: str) -> Path | None:
    """Return the folder `name` of the cache where it is there, without making it; else None.

    Raises ResourceError when it, or the cache it lies in, must not be used.
    """
    root = cache_root()
    for folder in (root, root / name):
        try:
            if not folder.exists():
                return None
            reason = why_unsafe(folder)
        except OSError as error:
            raise ResourceError(
                f"the cache folder {folder} cannot be used ({error.strerror}): export EDGELINE_CACHE=/a/folder/of/yours"
            ) from None
        if reason is not None:
            raise ResourceError(": ".join(reason))
    return root / name


def why_unsafe(folder: Path) -> tuple[str, str] | None:
    """Say why an existing folder must not hold a cache, and what to type; None where it may."""
    found, elsewhere = folder.stat(), "export EDGELINE_CACHE=/a/folder/of/yours"
    if not stat.S_ISDIR(found.st_mode):
        return f"the cache folder {folder} cannot be made: a file is in its place", elsewhere
    if found.st_uid != os.geteuid():
        return (
            f"the cache folder {folder} belongs to user {found.st_uid}, you are {os.geteuid()}, and what lies in it "
            "may carry code",
            elsewhere,
        )
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return (
            f"the cache folder {folder} may be written by others (mode {stat.S_IMODE(found.st_mode):o}), and what "
            "lies in it may carry code",
            f"chmod go-w {shlex.quote(str(folder))} if nobody else has written there, or {elsewhere}",
        )
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        return f"the cache folder {folder} may not be written", elsewhere
    return None


def is_whole(path: Path) -> bool:
    """Say whether a cached file is there and is, by its hash, what was written."""
    found = _open_content(path)
    if found is None:
        return False
    stream, digest = found
    with stream:
        return sha256_of_stream(stream) == digest


def is_cached(path: Path) -> bool:
    """Say whether anything is there, whole or damaged."""
    return os.path.lexists(path)


def read_checked(path: Path) -> bytes | None:
    """Return what write_checked wrote at `path`; None where nothing is there, or where it is damaged.

    Raises OSError when a file that is there cannot be read.
    """
    found = _open_content(path)
    if found is None:
        return None
    stream, digest = found
    with stream:
        content = stream.read()
    return content if hashlib.sha256(content).hexdigest() == digest else None


def write_checked(path: Path, content: bytes) -> None:
    """Put `content` at `path`; what stood there stays until the new content is whole, also through kill -9.

    Threads and processes that write at once take turns, and the last one's content stays. What the folder holds besides
    (old contents, what killed writes left) is removed.

    Raises OSError when the disk is full or the folder cannot be written; `path` is then as it was before.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _lock_file(path.with_name(_WRITING)) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        place = path.with_name(f"{path.name}.{hashlib.sha256(content).hexdigest()}")
        write_atomically(place, content)
        link = path.with_name(f".{path.name}.link.tmp")
        link.unlink(missing_ok=True)
        link.symlink_to(place.name)
        link.replace(path)
        _sweep(path.parent)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of `path`, alone among all threads and processes; wait for it where another holds it, and say so.

    The kernel lets go of it when the process ends, however it ends. Its file stays: removing it would let two in.
    """
    with _lock_file(path) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            note(f"waiting for another process that is making {path.name}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def locked_at_once(path: Path) -> Iterator[bool]:
    """Hold the lock of `path` where nobody else does; yield whether we do. It does not wait."""
    with _lock_file(path) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def _lock_file(path: Path) -> BinaryIO:
    return path.with_name(f"{path.name}.lock").open("ab")


def _open_content(path: Path) -> tuple[BinaryIO, str] | None:
    """Open what `path` links to, and return it with the hash that it must have; None where there is none."""
    while (name := _target(path)) is not None:
        try:
            return path.with_name(name).open("rb"), name.removeprefix(f"{path.name}.")
        except FileNotFoundError:
            if _target(path) == name:
                return None
            # The link was swapped, and the old content removed, since we looked: look again.
    return None


def _target(path: Path) -> str | None:
    """Return the content's name that `path` links to; None where there is no link of ours."""
    try:
        name = str(path.readlink())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno == errno.EINVAL:  # a file that is no link
            return None
        raise
    content = _CONTENT.fullmatch(name)
    return name if content is not None and content["of"] == path.name else None


def _sweep(folder: Path) -> None:
    """Remove contents that no link leads to, and what killed writes left. Nobody else is writing: we hold the lock."""
    for entry in folder.iterdir():
        content = _CONTENT.fullmatch(entry.name)
        if content is not None:
            is_old = _target(folder / content["of"]) != entry.name
        else:
            is_old = entry.name.startswith(".") and entry.name.endswith(".tmp")
        if is_old:
            with contextlib.suppress(OSError):  # the write is done; what cannot go costs space, and nothing else
                entry.unlink()
