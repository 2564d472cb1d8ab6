"""The functions of the library: what they check, and how they go through samples and layers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from edgeline_export.c.ir import C_TYPES
from edgeline_export.c.pixels import Pixels, pixel_lines
from edgeline_export.c.program import Program, Step
from edgeline_export.c.text import string_literal


def function_names(program: Program, pixels: Pixels | str, name: str) -> list[str]:
    """Return the names of the functions that the library exports, those of special builds included."""
    images = [f"{name}_infer_u8", f"{name}_u8_arena_bytes"] if isinstance(pixels, Pixels) else []
    threads = [f"{name}_threads_start", f"{name}_threads_end", f"{name}_infer_threads"] if program.has_threads else []
    profile = [f"{name}_infer_profile", f"{name}_layers", f"{name}_layer_nodes", f"{name}_layer_kernel"]
    return [f"{name}_arena_bytes", f"{name}_infer", *images, f"{name}_isa", *threads, *profile]


def entry_text(program: Program, pixels: Pixels | str, name: str) -> str:
    """Return the functions of NAME.h, and what they share."""
    upper = name.upper()
    lines = [
        f"size_t {name}_arena_bytes(size_t n)",
        "{",
        "    (void)n;",
        f"    return {upper}_ARENA_BYTES;",
        "}",
        "",
        f"const char *{name}_isa(void)",
        "{",
        "    return EDGELINE_ISA;",
        "}",
        "",
    ]
    given, made = C_TYPES[program.input.dtype], C_TYPES[program.output.dtype]
    first = 0 if program.quantised_input is None or not isinstance(pixels, Pixels) else 1
    if first:
        lines += [f"static void {name}_quantised(const edgeline_run *run)", "{"]
        lines += [*_calls(program, program.sample_steps[:1], 0, name), "}", ""]
    lines += [f"static void {name}_sample(const edgeline_run *run)", "{"]
    lines += [*_calls(program, program.sample_steps[first:], first, name), "}", ""]
    if program.row_steps:
        lines += [f"static void {name}_rows(const edgeline_run *run)", "{"]
        lines += [*_calls(program, program.row_steps, len(program.sample_steps), name), "}", ""]
    size = program.input.bytes
    sample = [
        f"            run.sample = run.input + run.row * {size};",
        *([f"            {name}_quantised(&run);"] if first else []),
    ]
    from_input = f"(const unsigned char *)input + done * {size}"
    lines += [
        *_blocks(program, name, f"{name}_blocks", (f"const {given} *input", from_input), sample),
        f"int {name}_infer(const {given} *input, {made} *output, size_t n, void *arena, size_t arena_bytes)",
        *_checked(program, name, "input", f"{name}_blocks(input, output"),
    ]
    if isinstance(pixels, Pixels):
        in_arena = f"(const unsigned char *)arena + {program.pixel_offset}" if pixels.quantised is None else "NULL"
        lines += [
            "",
            *_blocks(
                program,
                name,
                f"{name}_u8_blocks",
                ("const uint8_t *pixels", in_arena),
                pixel_lines(program, pixels, name),
            ),
            f"size_t {name}_u8_arena_bytes(size_t n)",
            "{",
            "    (void)n;",
            f"    return {upper}_U8_ARENA_BYTES;",
            "}",
            "",
            f"int {name}_infer_u8(const uint8_t *pixels, {made} *output, size_t n, void *arena, size_t arena_bytes)",
            *_checked(program, name, "pixels", f"{name}_u8_blocks(pixels, output", kind="u8_"),
        ]
    call = f"{name}_blocks(input, output"
    if program.has_threads:
        lines += _threads(program, name)
    lines += _profile(program, name, call)
    return "\n".join(lines) + "\n"


def _blocks(program: Program, name: str, function: str, given: tuple[str, str], sample: Sequence[str]) -> Sequence[str]:
    """Return the function that goes through the blocks of a batch.

    `given`: its first parameter, and where a block's input lies. `sample` makes ready what the layers of one sample
    read. Floats and images have a function each: a linker drops the one that nobody calls.
    """
    start = f"static void {function}("
    return [
        f"{start}{given[0]}, {C_TYPES[program.output.dtype]} *output, size_t n, void *arena,",
        f"{' ' * len(start)}struct edgeline_threads *pool, double *seconds)",
        "{",
        f"    for (size_t done = 0; done < n; done += {program.rows}) {{",
        "        edgeline_run run = {",
        f"            .input = {given[1]},",
        f"            .output = (unsigned char *)output + done * {program.output.bytes},",
        "            .arena = (unsigned char *)arena,",
        f"            .rows = n - done < {program.rows} ? n - done : {program.rows},",
        "            .pool = pool,",
        "            .seconds = seconds,",
        "        };",
        "        for (run.row = 0; run.row < run.rows; run.row++) {",
        *sample,
        f"            {name}_sample(&run);",
        "        }",
        *([f"        {name}_rows(&run);"] if program.row_steps else []),
        "    }",
        "}",
        "",
    ]


def _checked(
    program: Program, name: str, given: str, call: str, rest: str = "NULL, NULL", kind: str = ""
) -> Sequence[str]:
    """Return the body of a function that refuses what it cannot compute, and else calls `call`."""
    return [
        "{",
        f"    if ({given} == NULL || output == NULL || arena == NULL) return EDGELINE_ENULL;",
        "    if (n == 0) return EDGELINE_EBATCH;"
        if program.free_batch
        else f"    if (n != {program.input.shape[0]}) return EDGELINE_EBATCH;",
        "    if ((uintptr_t)arena % EDGELINE_ARENA_ALIGNMENT != 0) return EDGELINE_EALIGNMENT;",
        f"    if (arena_bytes < {name}_{kind}arena_bytes(n)) return EDGELINE_EARENA;",
        f"    {call}, n, arena, {rest});"
        if program.free_batch
        else f"    {call}, 1, arena, {rest}); /* the graph's own batch is one sample here */",
        "    return EDGELINE_OK;",
        "}",
    ]


def _calls(program: Program, steps: Sequence[Step], first: int, name: str) -> Iterable[str]:
    if not steps:
        yield "    (void)run;"
        return
    yield "    EDGELINE_PROFILE_BEGIN"
    for index, step in enumerate(steps, first):
        buffer = program.buffers[step.writes]
        # Several steps may write a tensor: the padding is there once, before the first.
        if buffer.fill is not None and step.writes not in {before.writes for before in program.steps[:index]}:
            rows = index >= len(program.sample_steps)
            row = f" + run->row * {buffer.bytes}" if buffer.per_row and not rows else ""
            many = " * run->rows" if buffer.per_row and rows else ""
            at = f"run->arena + {buffer.offset}{row}"
            yield f"    memset({at}, {int(buffer.fill)}, {buffer.bytes}{many}); /* the padding */"
        function = f"{name}_step_{index + 1}"
        yield f"    edgeline_each({function}, run);" if step.parallel else f"    {function}(run, 0, 1);"
        yield f"    EDGELINE_PROFILE_STEP({index})"


def _threads(program: Program, name: str) -> list[str]:
    given, made = C_TYPES[program.input.dtype], C_TYPES[program.output.dtype]
    arena_bytes, shared = ("0", False) if not program.shared_samples else (f"{name.upper()}_ARENA_BYTES", True)
    return [
        "",
        "#ifdef EDGELINE_THREADS",
        *(_shared(program, name) if shared else []),
        f"struct edgeline_threads *{name}_threads_start(int threads)",
        "{",
        f"    return edgeline_threads_start(threads, {arena_bytes});",
        "}",
        "",
        f"void {name}_threads_end(struct edgeline_threads *pool)",
        "{",
        "    if (pool != NULL) edgeline_threads_end(pool, pool->threads - 1);",
        "}",
        "",
        f"int {name}_infer_threads(const {given} *input, {made} *output, size_t n, void *arena, size_t arena_bytes,",
        f"{' ' * len(f'int {name}_infer_threads(')}struct edgeline_threads *pool)",
        *_checked(program, name, "input", f"{name}_{'shared' if shared else 'blocks'}(input, output", "pool, NULL"),
        "#endif",
    ]


def _shared(program: Program, name: str) -> list[str]:
    """Return the functions that share a call's samples among threads, each with an arena of its own."""
    given, made = C_TYPES[program.input.dtype], C_TYPES[program.output.dtype]
    start = f"static void {name}_shared("
    return [
        f"static void {name}_part(const edgeline_run *run, int part, int parts)",
        "{",
        "    (void)parts;",
        "    void *arena = edgeline_threads_arena(run, part);",
        "    size_t first;",
        "    for (size_t n; (n = edgeline_threads_samples(run, &first)) > 0;) {",
        f"        const {given} *input = (const {given} *)(run->input + first * {program.input.bytes});",
        f"        {made} *output = ({made} *)(run->output + first * {program.output.bytes});",
        f"        {name}_blocks(input, output, n, arena, NULL, NULL);",
        "    }",
        "}",
        "",
        f"{start}const {given} *input, {made} *output, size_t n, void *arena,",
        f"{' ' * len(start)}struct edgeline_threads *pool, double *seconds)",
        "{",
        f"    if (pool == NULL || n < {program.shared_samples}) {{",
        f"        {name}_blocks(input, output, n, arena, NULL, seconds);",
        "        return;",
        "    }",
        "    const edgeline_run run = {",
        "        .input = (const unsigned char *)input,",
        "        .output = (unsigned char *)output,",
        "        .arena = arena,",
        "        .rows = n,",
        "        .pool = pool,",
        "    };",
        f"    edgeline_threads_share({name}_part, &run, {program.rows});",
        "}",
        "",
    ]


def _profile(program: Program, name: str, call: str) -> list[str]:
    given, made = C_TYPES[program.input.dtype], C_TYPES[program.output.dtype]
    layers = f"{name.upper()}_LAYERS"
    nodes = [string_literal("\n".join(step.nodes)) for step in program.steps]
    kernels = [string_literal(step.kernel) for step in program.steps]
    return [
        "",
        "#ifdef EDGELINE_PROFILE",
        f"int {name}_infer_profile(const {given} *input, {made} *output, size_t n, void *arena, size_t arena_bytes,",
        f"{' ' * len(f'int {name}_infer_profile(')}struct edgeline_threads *pool, double *seconds)",
        *_checked(program, name, "input", call, "pool, seconds"),
        "",
        f"int {name}_layers(void)",
        "{",
        f"    return {layers};",
        "}",
        *_names(f"{name}_layer_nodes", layers, nodes),
        *_names(f"{name}_layer_kernel", layers, kernels),
        "#endif",
    ]


def _names(function: str, count: str, texts: Sequence[str]) -> list[str]:
    return [
        "",
        f"const char *{function}(int layer)",
        "{",
        f"    static const char *const names[{count}] = {{",
        *(f"        {text}," for text in texts),
        "    };",
        f"    return layer >= 0 && layer < {count} ? names[layer] : NULL;",
        "}",
    ]
