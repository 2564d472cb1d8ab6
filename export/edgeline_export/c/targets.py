"""What the C library is made for: a literal table.

A target fixes how weights are packed (`block` channels beside each other) and how many samples a fully connected layer
takes at once (`rows`); its variants are the instruction sets that one library carries. The compiler does the rest.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgeline.architecture import architecture_here
from edgeline.errors import UnknownNameError


@dataclass(frozen=True, slots=True)
class Variant:
    """One object of a library.

    `suffix` stands behind its functions' names, `isa` is what they call themselves (kernels/isa.c). It is not taken
    where the CPU lacks one of `features`, GCC's names of __builtin_cpu_supports.
    """

    suffix: str
    isa: str
    flags: tuple[str, ...]
    features: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Target:
    """A target. `vectors`: whether the kernels use GNU vectors, or C99 alone.

    A CPU that has what one of `variants` needs has what those before it need. `architecture`: the only one that its
    flags fit, in the words of edgeline.architecture; None for any.
    """

    name: str
    what: str
    variants: tuple[Variant, ...]
    architecture: str | None = None
    block: int = 16
    rows: int = 8
    vectors: bool = True


_X86 = "x86_64"
_V3 = Variant("v3", "avx2", ("-march=x86-64-v3",), ("avx2", "bmi", "bmi2", "fma"))
_V4 = Variant(
    "v4", "avx512", ("-march=x86-64-v4",), (*_V3.features, "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")
)
_VNNI = Variant(
    "vnni",
    "avx512-vnni",
    ("-march=x86-64-v4", "-mavx512vnni", "-mavx512vbmi"),
    (*_V4.features, "avx512vnni", "avx512vbmi"),
)

TARGETS = {
    target.name: target
    for target in (
        Target("generic", "C99 alone, any CPU and compiler", (Variant("", "c99", ()),), block=4, rows=1, vectors=False),
        Target("x86-64-v3", "x86-64 with AVX2 and FMA", (_V3,), _X86),
        Target("x86-64-v4", "x86-64 with AVX-512, and VNNI where the CPU has it", (_V4, _VNNI), _X86),
        Target(
            "x86-64",
            "any x86-64: the best of what the CPU has",
            (Variant("base", "sse2", ()), _V3, _V4, _VNNI),
            _X86,
        ),
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
    return TARGETS["x86-64" if architecture_here() == _X86 else "generic"]
