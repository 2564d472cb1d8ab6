"""Many networks in one executable: the kernels once, one compiler run; each network runs in a process of its own."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from edgeline_export.c.emit import KERNELS, kernels_of, settings_text, sources
from edgeline_export.c.header import Heading
from edgeline_export.c.targets import target_from_name
from edgeline_export.c.text import identifier
from tests.export.c.harness import WARNINGS, compiler, run_executable

RUNNER = Path(__file__).with_name("suite_runner.c")


@dataclass(frozen=True)
class Member:
    """One network of a suite."""

    program: object
    executable: Path
    index: int
    emulator: tuple[str, ...] = ()

    def run(self, batch):
        """[n, ...] -> [n, ...], computed by the executable; fails the test when it crashes or returns a code."""
        return run_executable(self.program, [*self.emulator, self.executable, str(self.index)], batch)


def build_suite(folder, programs, target="generic", cc="gcc", flags=("-O1",), isa=None, emulator=()):
    """{name: program}, all lowered for one target -> {name: what runs it}; `isa`: the flags of another variant."""
    chosen = target_from_name(target)
    kernels, bodies, rows = [], [], []
    for name, program in programs.items():
        for file, content in sources(program, chosen, Heading("0" * 64, "edgeline", "a test")).items():
            text = content.decode()
            if file.endswith(".h"):
                (folder / file).write_text(text)
                continue
            for stem in kernels_of(program, target=chosen):
                kernel = (KERNELS / f"{stem}.c").read_text()
                assert kernel.rstrip("\n") in text
                text = text.replace(kernel.rstrip("\n"), "", 1)
                kernels += [stem] if stem not in kernels else []
            bodies.append(text)
        c_name = identifier(name)
        rows.append(
            f"    {{{c_name}_arena_bytes, (int (*)(const void *, void *, size_t, void *, size_t)){c_name}_infer}},"
        )
    includes = "#include <math.h>\n#include <stddef.h>\n#include <stdint.h>\n#include <string.h>\n"
    head = f"{includes}{settings_text(chosen)}"
    texts = [(KERNELS / f"{stem}.c").read_text() for stem in kernels]
    bodies = [body.replace("#define EDGELINE_SCALAR\n", "") for body in bodies]
    (folder / "suite.c").write_text("\n".join([head, *texts, *bodies]))
    headers = "".join(f'#include "{identifier(name)}.h"\n' for name in programs)
    (folder / "suite_table.h").write_text(f"{headers}#define NETWORKS \\\n" + " \\\n".join(rows) + "\n")
    executable = folder / f"suite-{cc}"
    done = subprocess.run(
        [compiler(cc), "-std=c99", *WARNINGS, "-Wno-unused-function", "-Wno-cast-function-type", *flags,
         *(chosen.variants[-1].flags if isa is None else isa), f"-I{folder}", RUNNER, folder / "suite.c", "-o",
         executable, "-lm"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[:4000]
    return {name: Member(program, executable, i, emulator) for i, (name, program) in enumerate(programs.items())}
