"""The flash image by itself: warnings, what it finds, how it ends, what it counts, and the linker's limits."""

import json
import re
import subprocess

import pytest

from edgeline_export.c.boards import BOARDS
from edgeline_export.c.budgets import Budgets
from edgeline_export.c.firmware import AROUND, DoesNotFitError
from edgeline_export.c.firmware_files import linker_script
from edgeline_export.c.targets import TARGETS
from tests.export.c.board_tools import INT8, linked, run, sources_in

STRICT = ("-std=c99", "-Wall", "-Wextra", "-Wconversion", "-Wpedantic", "-Werror")


@pytest.mark.cross
@pytest.mark.parametrize("target", BOARDS)
def test_what_stands_around_the_network_compiles_without_a_warning(on_board, target):
    folder = on_board(target)
    for file in AROUND:
        flags = TARGETS[target].variants[0].flags
        done = subprocess.run(
            ["arm-none-eabi-gcc", *STRICT, "-Os", *flags, "-I.", "-c", file, "-o", "/dev/null"],
            cwd=folder, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr


@pytest.mark.cross
@pytest.mark.parametrize("options", [(), INT8], ids=["fp32", "int8"])
@pytest.mark.parametrize("target", ["cortex-m0plus", "cortex-m55"])
def test_a_changed_weight_is_found_on_the_board(on_board, tmp_path, target, options):
    files = sources_in(on_board(target, *options))
    array = rb"(const \w+ tiny_w\d+_0\[\d+\] = \{\n)[^,]+"
    files["tiny.c"], changed = re.subn(array, rb"\g<1>" + (b"77" if options else b"7.5f"), files["tiny.c"], count=1)
    assert changed == 1
    done = run(linked(files, target), target, tmp_path)
    assert done.exit_code == 1
    assert re.search(r"^differs: input \d+ output \d+ found 0x[0-9a-f]{8} expected 0x[0-9a-f]{8}$", done.text, re.M)


@pytest.mark.cross
def test_an_error_code_of_the_library(on_board, tmp_path):
    files = sources_in(on_board("cortex-m4"))
    files["tiny.c"] = files["tiny.c"].replace(b"return EDGELINE_OK;", b"return EDGELINE_EARENA;")
    done = run(linked(files, "cortex-m4"), "cortex-m4", tmp_path)
    assert (done.exit_code, done.figures) == (3, {"error": 4})


DEEP = b"""
int deep(volatile int n);
__attribute__((optimize("O0"))) int deep(volatile int n)
{
    volatile int frame[32];
    frame[n % 32] = n;
    return n > 500 ? 0 : deep(n + 1) + frame[n % 32];
}
"""


@pytest.mark.cross
@pytest.mark.parametrize("target", ["cortex-m0plus", "cortex-m4"])
@pytest.mark.parametrize("body", ["__builtin_trap();", "return deep(0);"], ids=["undefined", "stack"])
def test_a_fault_ends_with_a_code_of_its_own(on_board, tmp_path, target, body):
    """67 is a HardFault; a stack that overflows leaves the RAM and hurts nothing."""
    files = sources_in(on_board(target))
    main = DEEP + files["selftest.c"].replace(b"    return tiny_selftest();", body.encode())
    assert body.encode() in main
    done = run(linked({**files, "selftest.c": main}, target), target, tmp_path)
    assert done.exit_code == 67
    assert "the processor stopped at a fault" in done.text


LOOP = """\
#define SELFTEST_WITHOUT_MAIN
#include "artefact_selftest.c"
int loop(const selftest_input *i, selftest_output *m, size_t n, void *a, size_t b);
__attribute__((naked)) int loop(const selftest_input *i, selftest_output *m, size_t n, void *a, size_t b)
{ __asm__(".syntax unified\\n ldr r0, =COUNT\\n 1: subs r0, r0, #1\\n bne 1b\\n bx lr\\n .ltorg"); }
int main(void)
{
    struct ticks empty = ticks_of(nothing, selftest_inputs[0]), ticks = ticks_of(loop, selftest_inputs[0]);
    print_figure("wraps: ", ticks.wraps);
    print_figure("ticks: ", ticks.rest);
    print_figure("empty: ", empty.rest);
    return 0;
}
"""


@pytest.mark.cross
@pytest.mark.parametrize("target", BOARDS)
@pytest.mark.parametrize("rounds", [1, 1000, 3_000_000])
def test_instructions_are_counted_to_the_last_one(on_board, tmp_path, target, rounds):
    """Two a round; the others are as many as the empty call has. SysTick wraps twice in the longest loop."""
    files = sources_in(on_board(target))
    files["artefact_selftest.c"] = files["selftest.c"]
    files["selftest.c"] = LOOP.replace("COUNT", str(rounds)).encode()
    done = run(linked(files, target), target, tmp_path)
    assert done.instructions == 2 * rounds
    assert (done.figures["wraps"] > 0) == (rounds > 1_000_000)


@pytest.mark.cross
@pytest.mark.parametrize("memory", ["flash", "ram"])
def test_the_linker_holds_the_budgets_to_the_byte(on_board, memory):
    files = sources_in(on_board("cortex-m4"))
    image = json.loads((on_board("cortex-m4") / "manifest.json").read_text())["compilation"]["image"]
    room = {"ram": 1 << 20, "flash": 1 << 20, memory: image[f"{memory}_bytes"]}

    def script(less):
        budgets = Budgets(**{**room, memory: room[memory] - less})
        return linker_script("tiny", BOARDS["cortex-m4"], budgets, image["stack_reserved_bytes"])

    assert linked(files, "cortex-m4", script(0))
    with pytest.raises(DoesNotFitError, match=f"(?i)region `{memory}' overflowed|will not fit in region `{memory}'"):
        linked(files, "cortex-m4", script(1))
