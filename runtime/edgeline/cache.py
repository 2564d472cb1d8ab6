"""The cache on this device: files that took work to make, each with its hash, in folders that only their owner writes.

A cached engine may carry code, so a folder of another owner, or one that others may write to, is not used. The content
stands alone in its file, so that any tool reads it; its SHA-256 stands beside it in `<name>.sha256`, its lock in
`<name>.lock`. Not here: keys (whoever caches knows what its content depends on), and an age or size at which files go.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path

from edgeline.command import note
from edgeline.errors import ResourceError
from edgeline.files import sha256_of_file, write_atomically

_PRIVATE = 0o700


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


def why_unsafe(folder: Path) -> tuple[str, str] | None:
    """Say why an existing folder must not hold a cache, and what to type; None where it may."""
    found, elsewhere = folder.stat(), "export EDGELINE_CACHE=/a/folder/of/yours"
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
    try:
        return sha256_of_file(path) == _hash_file(path).read_text(encoding="ascii").strip()
    except (FileNotFoundError, UnicodeDecodeError):
        return False


def read_checked(path: Path) -> bytes | None:
    """Return what write_checked wrote at `path`; None where nothing is there, or where it is damaged.

    Raises OSError when a file that is there cannot be read.
    """
    try:
        content, expected = path.read_bytes(), _hash_file(path).read_text(encoding="ascii").strip()
    except (FileNotFoundError, UnicodeDecodeError):
        return None
    return content if hashlib.sha256(content).hexdigest() == expected else None


def write_checked(path: Path, content: bytes) -> None:
    """Write `content` to `path` and its hash beside it; killed in between, the two do not fit and are not read.

    Raises OSError when the disk is full or the folder cannot be written.
    """
    write_atomically(path, content)
    write_atomically(_hash_file(path), f"{hashlib.sha256(content).hexdigest()}\n")


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of `path`, alone among all threads and processes; wait for it where another holds it, and say so.

    The kernel lets go of it when the process ends, however it ends. Its file stays: removing it would let two in.
    """
    with path.with_name(f"{path.name}.lock").open("a") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            note(f"waiting for another process that is making {path.name}")
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _hash_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")
