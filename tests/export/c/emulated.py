"""Networks compiled for other CPUs, and run by QEMU's user mode."""

import shutil
from dataclasses import dataclass, replace

import pytest

from edgeline_export.c.targets import TARGETS
from tests.export.c.harness import OPTIMISED, build


@dataclass(frozen=True)
class Run:
    """A target's variant, and the emulator with a CPU that has that and no more."""

    target: str
    variant: int
    emulator: tuple[str, ...]

    @property
    def cc(self):
        """The target's compiler; skips the test where something is not installed."""
        target = TARGETS[self.target]
        for program, packages in ((target.compiler, target.packages), (self.emulator[0], "qemu-user")):
            if shutil.which(program) is None:
                pytest.skip(f"{program} is not installed: apt-get install {packages}")
        return target.compiler

    @property
    def isa(self):
        """The compiler's flags of the variant."""
        return TARGETS[self.target].variants[self.variant].flags


RUNS = {
    "neon": Run("aarch64", 0, ("qemu-aarch64", "-cpu", "cortex-a53")),
    "neon-dotprod": Run("aarch64", 1, ("qemu-aarch64", "-cpu", "cortex-a76")),
    "neon-i8mm": Run("aarch64", 2, ("qemu-aarch64", "-cpu", "max")),
    "armv7": Run("armv7", 0, ("qemu-arm", "-cpu", "cortex-a7")),
    "riscv64": Run("riscv64", 0, ("qemu-riscv64",)),
}


def built_for(run, folder, model, flags=OPTIMISED, name="net"):
    """Generate for the target of RUNS[run], compile with all warnings as errors, and return what QEMU runs."""
    one = RUNS[run]
    built = build(folder, model, one.target, one.cc, (*flags, "-static"), name, isa=one.isa)
    return replace(built, emulator=one.emulator)
