"""The CPU's architecture by one name each: kernels, compilers and Python call the same one differently."""

from __future__ import annotations

import platform

_OTHER_NAMES = {"amd64": "x86_64", "arm64": "aarch64", "powerpc64le": "ppc64le"}


def architecture_from_name(name: str) -> str:
    """Return `x86_64`, `aarch64`, `arm`, `i386`, ... for what `uname -m` or the first word of a triplet says."""
    plain = name.lower()
    if plain.startswith("arm") and plain != "arm64":
        return "arm"
    if len(plain) == 4 and plain[0] == "i" and plain.endswith("86"):
        return "i386"
    return _OTHER_NAMES.get(plain, plain)


def architecture_here() -> str:
    """Return this machine's."""
    return architecture_from_name(platform.machine())
