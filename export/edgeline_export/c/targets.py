"""What the C library is made for: a literal table.

A target fixes how weights are packed (`block` channels beside each other) and how many samples a fully connected layer
takes at once (`rows`); its variants are the instruction sets that one library carries. The compiler does the rest.
A target with a board has no operating system: boards.py.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass

from edgeline.architecture import architecture_here
from edgeline.errors import UnknownNameError
from edgeline_export.c.boards import BOARDS, Board


@dataclass(frozen=True, slots=True)
class Variant:
    """One object of a library.

    `suffix` stands behind its functions' names, `isa` is what they call themselves (kernels/isa.c). It is not taken
    where the CPU lacks one of `features`: GCC's names of __builtin_cpu_supports on x86, those of the lines Features of
    /proc/cpuinfo on ARM.
    """

    suffix: str
    isa: str
    flags: tuple[str, ...]
    features: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Target:
    """A target. `vectors`: whether the kernels use GNU vectors, or C99 alone.

    A CPU that has what one of `variants` needs has what those before it need. `architecture`: the only one that its
    flags fit, in the words of edgeline.architecture; None for any. `compiler` is what is looked for where this
    machine's own makes code for another one, `packages` are Debian's that bring it. `tile_blocks`: of channels, that a
    tile of a float Conv keeps in registers at most. `dot_block` is the block of integer layers, 1 for the kernels of
    microcontrollers (lower/integers_taps.py). `signed_dot`: their kernels take x - 128 for the byte x, so 128 times a
    channel's weights is in its bias. `optimise`: the compiler's flags in place of those of toolchain.py. `own_kernels`:
    a kernel, and the file before it that holds this target's form of it.
    """

    name: str
    what: str
    variants: tuple[Variant, ...]
    architecture: str | None = None
    block: int = 16
    rows: int = 8
    vectors: bool = True
    tile_blocks: int = 4
    dot_block: int = 16
    signed_dot: bool = False
    compiler: str | None = None
    packages: str = ""
    optimise: tuple[str, ...] = ()
    board: Board | None = None
    own_kernels: tuple[tuple[str, str], ...] = ()


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
ARM64 = "aarch64"
_NEON = (("dot_u8s8", "dot_neon"),)
_I8MM_KERNELS = (*_NEON, ("conv2d_planar_u8", "conv2d_planar_i8mm"))
_DOTPROD = Variant("dotprod", "neon-dotprod", ("-march=armv8.2-a+dotprod",), ("asimddp",))
_I8MM = Variant("i8mm", "neon-i8mm", ("-march=armv8.2-a+dotprod+i8mm",), (*_DOTPROD.features, "i8mm"))


# With -O3 gcc unrolls the layers' functions and copies them: a tenth fewer instructions, half as much code again.
_SMALL = ("-O2", "-std=c99", "-ffp-contract=fast", "-fno-math-errno")


def _cortex(name: str, what: str, isa: str, flags: str, *, signed_dot: bool = False) -> Target:
    variant = Variant("", isa, (f"-mcpu={name}", "-mthumb", *flags.split()))
    return Target(
        name,
        what,
        (variant,),
        "arm",
        block=4,
        rows=1,
        vectors=False,
        dot_block=1,
        signed_dot=signed_dot,
        compiler="arm-none-eabi-gcc",
        packages="gcc-arm-none-eabi libnewlib-arm-none-eabi",
        optimise=_SMALL,
        board=BOARDS[name],
    )


TARGETS = {
    target.name: target
    for target in (
        Target(
            "generic",
            "C99 alone, any CPU and compiler",
            (Variant("", "c99", ()),),
            block=4,
            rows=1,
            vectors=False,
            dot_block=4,
        ),
        Target("x86-64-v3", "x86-64 with AVX2 and FMA", (_V3,), _X86),
        Target("x86-64-v4", "x86-64 with AVX-512, and VNNI where the CPU has it", (_V4, _VNNI), _X86),
        Target(
            "x86-64",
            "any x86-64: the best of what the CPU has",
            (Variant("base", "sse2", ()), _V3, _V4, _VNNI),
            _X86,
        ),
        Target(
            "aarch64",
            "64-bit ARM with NEON, and dot products where the CPU has them",
            (Variant("base", "neon", ()), _DOTPROD, _I8MM),
            ARM64,
            block=4,
            tile_blocks=2,
            dot_block=4,
            signed_dot=True,
            own_kernels=_I8MM_KERNELS,
            compiler="aarch64-linux-gnu-gcc",
            packages="gcc-aarch64-linux-gnu libc6-dev-arm64-cross",
        ),
        Target(
            "armv7",
            "32-bit ARM with NEON and hard floats",
            (Variant("", "neon", ("-march=armv7-a", "-mfpu=neon", "-mfloat-abi=hard")),),
            "arm",
            block=4,
            rows=1,
            tile_blocks=1,
            dot_block=4,
            signed_dot=True,
            own_kernels=_NEON,
            compiler="arm-linux-gnueabihf-gcc",
            packages="gcc-arm-linux-gnueabihf libc6-dev-armhf-cross",
        ),
        Target(
            "riscv64",
            "64-bit RISC-V without vectors",
            (Variant("", "c99", ("-march=rv64gc",)),),
            "riscv64",
            block=4,
            rows=1,
            vectors=False,
            dot_block=4,
            compiler="riscv64-linux-gnu-gcc",
            packages="gcc-riscv64-linux-gnu libc6-dev-riscv64-cross",
        ),
        _cortex("cortex-m0plus", "Cortex-M0+ and M0: no floating-point unit", "armv6-m", "-mfloat-abi=soft"),
        _cortex("cortex-m4", "Cortex-M4 with its DSP extension", "armv7e-m", "-mfpu=fpv4-sp-d16 -mfloat-abi=hard"),
        _cortex("cortex-m7", "Cortex-M7 with its DSP extension", "armv7e-m", "-mfpu=fpv5-d16 -mfloat-abi=hard"),
        _cortex("cortex-m55", "Cortex-M55 with Helium (MVE)", "helium", "-mfloat-abi=hard", signed_dot=True),
    )
}


# By the architecture of a machine.
_NATIVE = {_X86: "x86-64", ARM64: "aarch64", "riscv64": "riscv64"}


def target_from_name(name: str) -> Target:
    """Look a target up; "native" is this machine's. Raises UnknownNameError, which lists the nearest names."""
    if name == "native":
        return native_target()
    if name not in TARGETS:
        raise UnknownNameError("target", name, ["native", *TARGETS])
    return TARGETS[name]


def native_target() -> Target:
    """Return the target for machines like this one."""
    if platform.machine().lower().startswith(("armv7", "armv8")):  # 32-bit ARM; what is before them has no NEON
        return TARGETS["armv7"]
    return TARGETS[_NATIVE.get(architecture_here(), "generic")]
