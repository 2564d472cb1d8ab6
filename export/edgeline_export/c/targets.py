"""What the C library is made for: a literal table.

A target fixes how weights are packed (`block` channels beside each other) and how many samples a fully connected layer
takes at once (`rows`); its variants are the instruction sets that one library carries. The compiler does the rest.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgeline.errors import UnknownNameError


@dataclass(frozen=True, slots=True)
class Variant:
    """One object of a library: its suffix, the compiler's flags, and the CPU features without which it is not taken."""

    suffix: str
    flags: tuple[str, ...]
    features: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Target:
    """A target. `vectors`: whether the kernels use GNU vectors, or C99 alone."""

    name: str
    what: str
    variants: tuple[Variant, ...]
    block: int = 16
    rows: int = 8
    vectors: bool = True


_V3 = Variant("v3", ("-march=x86-64-v3",), ("avx2", "fma"))
_V4 = Variant("v4", ("-march=x86-64-v4",), ("avx512f", "avx512bw", "avx512dq", "avx512vl"))
_VNNI = Variant(
    "vnni",
    ("-march=x86-64-v4", "-mavx512vnni", "-mavx512vbmi"),
    (*_V4.features, "avx512vnni", "avx512vbmi"),
)

TARGETS = {
    target.name: target
    for target in (
        Target("generic", "C99 alone, any CPU and compiler", (Variant("", ()),), block=4, rows=1, vectors=False),
        Target("x86-64-v3", "x86-64 with AVX2 and FMA", (_V3,)),
        Target("x86-64-v4", "x86-64 with AVX-512, and VNNI where the CPU has it", (_V4, _VNNI)),
        Target("x86-64", "any x86-64: the best of what the CPU has", (Variant("base", ()), _V3, _V4, _VNNI)),
    )
}


def target_from_name(name: str) -> Target:
    """Look a target up; "native" is this machine's. Raises UnknownNameError, which lists the nearest names."""
    if name == "native":
        return native_target()
    if name not in TARGETS:
        raise UnknownNameError("target", name, ["native", *TARGETS])
    return TARGETS[name]


def native_target() -> Target:
    """Return the target for machines like this one."""
    import platform

    if platform.machine().lower() in ("x86_64", "amd64"):
        return TARGETS["x86-64"]
    return TARGETS["generic"]
