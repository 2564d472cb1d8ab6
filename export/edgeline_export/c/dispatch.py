"""The C file that a shared library for several instruction sets has beside its objects: it chooses among them.

The portable sources do without it: whoever compiles them says for which CPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgeline_export.c.ir import C_TYPES
from edgeline_export.c.program import Program
from edgeline_export.c.targets import ARM64, Target, Variant
from edgeline_export.c.text import identifier

# Where Linux says what a 64-bit ARM has, by the names of /proc/cpuinfo. GCC 12 has no __builtin_cpu_supports for it.
_ARM_BITS = {"asimddp": ("AT_HWCAP", "HWCAP_ASIMDDP"), "i8mm": ("AT_HWCAP2", "HWCAP2_I8MM")}
_HWCAP = """#if defined(__linux__)
#include <sys/auxv.h>
#else /* no other system is asked: the first instruction set is for every CPU */
#define getauxval(which) 0ul
#endif
#ifndef AT_HWCAP
#define AT_HWCAP 16
#endif
#ifndef AT_HWCAP2
#define AT_HWCAP2 26
#endif
#ifndef HWCAP_ASIMDDP
#define HWCAP_ASIMDDP (1ul << 20)
#endif
#ifndef HWCAP2_I8MM
#define HWCAP2_I8MM (1ul << 13)
#endif
"""


def needs_dispatch(target: Target) -> bool:
    """Whether a library must look at the CPU: it has a choice, or needs what not every CPU has."""
    return len(target.variants) > 1 or bool(target.variants[0].features)


@dataclass(frozen=True, slots=True)
class _Function:
    """A function of the library that each instruction set has; `otherwise` is its result where the CPU runs none."""

    name: str
    result: str
    arguments: tuple[str, ...]
    otherwise: str

    @property
    def declared(self) -> str:
        """Its arguments with their types."""
        return ", ".join(self.arguments) or "void"

    @property
    def passed(self) -> str:
        """The names of its arguments."""
        return ", ".join(self.names)

    @property
    def names(self) -> list[str]:
        """The name of each argument."""
        return [argument.replace("*", " ").split()[-1] for argument in self.arguments]


def _functions(program: Program, takes_pixels: bool) -> list[_Function]:
    given, made = C_TYPES[program.input.dtype], C_TYPES[program.output.dtype]
    rest = (f"{made} *output", "size_t n", "void *arena", "size_t arena_bytes")
    call, images = (f"const {given} *input", *rest), ("const uint8_t *pixels", *rest)
    pool = "struct edgeline_threads *pool"
    functions = [_Function("isa", "const char *", (), "NULL"), _Function("infer", "int ", call, "EDGELINE_ECPU")]
    if takes_pixels:
        functions.append(_Function("infer_u8", "int ", images, "EDGELINE_ECPU"))
    if program.has_threads:
        functions.append(_Function("infer_threads", "int ", (*call, pool), "EDGELINE_ECPU"))
        functions.append(_Function("threads_start", "struct edgeline_threads *", ("int threads",), "NULL"))
        functions.append(_Function("threads_end", "void ", (pool,), ""))
    functions.append(_Function("infer_profile", "int ", (*call, pool, "double *seconds"), "EDGELINE_ECPU"))
    functions.append(_Function("layers", "int ", (), "0"))
    functions += [_Function(f"layer_{what}", "const char *", ("int layer",), "NULL") for what in ("kernel", "nodes")]
    return functions


def dispatch_source(program: Program, target: Target, takes_pixels: bool) -> str:
    """Return NAME_dispatch.c."""
    name = identifier(program.name)
    functions = _functions(program, takes_pixels)
    members = "\n".join(_line(f"    {f.result}(*{f.name})({f.declared});") for f in functions)
    parts = [
        f"""/* {name}: chooses among the instruction sets of this library the last one that the CPU has.
 *
 * It does so once, while the library is loaded: nobody can call anything before, so no call looks, waits or races. */

#include "{name}.h"

typedef struct {{
{members}
}} {name}_variant;
""",
        *(_declarations(name, variant, functions) for variant in target.variants),
    ]
    rows = [_row(name, f"_{variant.suffix}", functions) for variant in target.variants]
    first = 0
    if target.variants[0].features:
        parts.append(_none(name, functions))
        rows.insert(0, _row(name, "_none", functions))
        first = 1
    table = "\n".join(rows)
    arm = target.architecture == ARM64
    if arm:
        parts.insert(1, _HWCAP)
    parts.append(
        f"static const {name}_variant {name}_variants[] = {{\n{table}\n}};\n\n"
        f"static const {name}_variant *{name}_chosen = &{name}_variants[0];\n"
    )
    parts += [_has(name, variant, arm) for variant in target.variants if variant.features]
    choices = [
        f"    if ({name}_has_{variant.suffix}()) {name}_chosen = &{name}_variants[{index}];"
        for index, variant in enumerate(target.variants, first)
        if variant.features
    ]
    first_of_all = "" if arm else "    __builtin_cpu_init();\n"
    parts.append(
        f"__attribute__((constructor)) static void {name}_choose(void)\n{{\n{first_of_all}"
        + "\n".join(choices)
        + "\n}\n"
    )
    for kind, macro in (("", ""), ("u8_", "U8_")) if takes_pixels else (("", ""),):
        parts.append(
            f"size_t {name}_{kind}arena_bytes(size_t n)\n{{\n    (void)n; /* the same for all of them */\n"
            f"    return {name.upper()}_{macro}ARENA_BYTES;\n}}\n"
        )
    for f in functions:
        word = "" if f.result == "void " else "return "
        body = f"    {word}{name}_chosen->{f.name}({f.passed});"
        parts.append(_line(f"{f.result}{name}_{f.name}({f.declared})") + f"\n{{\n{body}\n}}\n")
    return "\n".join(parts)


def _declarations(name: str, variant: Variant, functions: Sequence[_Function]) -> str:
    return "".join(_line(f"{f.result}{name}_{f.name}_{variant.suffix}({f.declared});") + "\n" for f in functions)


def _line(text: str) -> str:
    """Return a declaration in lines of at most 120 columns, cut between arguments."""
    lines = [""]
    for piece in text.split(", "):
        joined = f"{lines[-1]}, {piece}" if lines[-1] else piece
        if len(joined) < 120:
            lines[-1] = joined
        else:
            lines[-1] += ","
            lines.append(f"{' ' * 8}{piece}")
    return "\n".join(lines)


def _row(name: str, suffix: str, functions: Sequence[_Function]) -> str:
    return "    {\n" + "".join(f"        {name}_{f.name}{suffix},\n" for f in functions) + "    },"


def _none(name: str, functions: Sequence[_Function]) -> str:
    """Return what stands in the place of a variant where the CPU runs none."""
    parts = ["/* For a CPU that has none of them. */"]
    for f in functions:
        unused = "".join(f"    (void){argument};\n" for argument in f.names)
        result = f"    return {f.otherwise};\n" if f.otherwise else ""
        parts.append(_line(f"static {f.result}{name}_{f.name}_none({f.declared})") + f"\n{{\n{unused}{result}}}")
    return "\n".join(parts) + "\n"


def _has(name: str, variant: Variant, arm: bool) -> str:
    """Return the function that asks whether the CPU, and the system on it, have what a variant needs."""
    asks = [
        "(getauxval({}) & {})".format(*_ARM_BITS[feature]) if arm else f'__builtin_cpu_supports("{feature}")'
        for feature in variant.features
    ]
    asked = "\n           && ".join(asks)
    return f"static int {name}_has_{variant.suffix}(void)\n{{\n    return {asked};\n}}\n"
