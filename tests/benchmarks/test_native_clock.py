"""The C driver on tiny libraries compiled here, and the helper that compiles it. No test looks at a time itself."""

import os
import shutil
import subprocess

import numpy as np
import pytest

from edgeline.errors import EdgelineError, InputError, MissingCapabilityError, ResourceError
from edgeline_bench import c_compiler
from edgeline_bench.c_compiler import compile_c
from edgeline_bench.native_clock import NativeClock

needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler: apt-get install gcc")

# Each sample's sum and its first value, so that one sees what went in; the count of calls is kept in the arena.
SUMS = """
#include <stddef.h>
size_t toy_arena_bytes(size_t n) { return 24 * n; }
int toy_infer(const float *input, float *logits, size_t n, void *arena, size_t arena_bytes) {
    if (arena_bytes != 24 * n || (size_t)arena % 16) return 7;
    for (size_t i = 0; i < n; i++) {
        logits[2 * i] = input[3 * i] + input[3 * i + 1] + input[3 * i + 2];
        logits[2 * i + 1] = input[3 * i];
    }
    SLOW
    return CODE;
}
"""
# Long enough (about 1 ms) to be timed one by one on any machine, counted in turns and not in time.
LOOP = "for (volatile long k = 0; k < 2000000; k++) {}"


@pytest.fixture
def library(tmp_path):
    def build(slow="", code="0", text=SUMS, name="libtoy.so"):
        source, made = tmp_path / "toy.c", tmp_path / name
        source.write_text(text.replace("SLOW", slow).replace("CODE", code))
        subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", made, source], check=True)
        return made

    return build


BATCH = np.arange(12, dtype=np.float32).reshape(4, 3)


@needs_compiler
def test_the_first_result_comes_back(library):
    with NativeClock(library(), "toy", BATCH, (2,)) as clock:
        assert clock.first_output.tolist() == [[3, 0], [12, 3], [21, 6], [30, 9]]
        assert clock.arena_bytes == 96
        assert 0 < clock.clock_overhead_s < 1e-4
        assert clock.first_s > 0


@needs_compiler
def test_slow_calls_are_timed_one_by_one(library):
    with NativeClock(library(slow=LOOP), "toy", BATCH, (2,)) as clock:
        slot = clock.measure(0.1)
        assert slot.calls_per_sample == 1
        assert len(slot.samples_s) == slot.calls
        assert slot.warmup_calls > 0
        assert sum(slot.samples_s) <= slot.elapsed_s
        assert clock.measure(1e-9).calls == 1  # longer than its slot: made once


@needs_compiler
def test_fast_calls_are_timed_in_blocks(library):
    """A few nanoseconds a call: a sample is a block that lasts a hundred readings of the clock."""
    with NativeClock(library(), "toy", BATCH, (2,)) as clock:
        slot = clock.measure(0.05)
        assert slot.calls_per_sample > 1
        assert slot.calls % slot.calls_per_sample == 0
        assert 1 <= len(slot.samples_s) <= 4_000
        assert len(slot.samples_s) <= slot.calls / slot.calls_per_sample
        assert min(slot.samples_s) > 0
        assert slot.elapsed_s >= 0.05


@needs_compiler
def test_an_error_code_is_an_error(library):
    with pytest.raises(InputError, match=r"toy_infer of libtoy.so: infer returned an error code 3"):
        NativeClock(library(code="3"), "toy", BATCH, (2,))


@needs_compiler
def test_an_error_code_of_a_later_call_is_an_error(library):
    later = "static int calls; if (++calls > 5) return 4;"
    with (
        NativeClock(library(slow=later), "toy", BATCH, (2,)) as clock,
        pytest.raises(InputError, match="infer returned an error code 4"),
    ):
        clock.measure(0.01)


@needs_compiler
@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("other", SUMS, "the library has no function other_infer"),
        ("toy", SUMS.replace("toy_arena_bytes", "arena_of"), "the library has no function toy_arena_bytes"),
        ("x" * 600, SUMS, "the name is too long"),
    ],
)
def test_a_library_without_the_functions(library, name, text, words):
    with pytest.raises(InputError, match=words):
        NativeClock(library(text=text), name, BATCH, (2,))


@needs_compiler
def test_a_file_that_is_no_library(tmp_path):
    (tmp_path / 'a "b".so').write_text("no")
    with pytest.raises(InputError, match=r'_infer of a "b".so: .*(file too short|invalid ELF header)'):
        NativeClock(tmp_path / 'a "b".so', "toy", BATCH, (2,))


@needs_compiler
@pytest.mark.parametrize(
    ("slow", "kind", "words"),
    [
        ("*(volatile int *)0 = 1;", ResourceError, r"ended without an answer \(signal 11\)"),
        ('extern int puts(const char *); puts("hello");', EdgelineError, "expected an answer of the clock on stdout"),
    ],
)
def test_a_library_that_crashes_or_prints(library, slow, kind, words):
    with pytest.raises(kind, match=words):
        NativeClock(library(slow=slow), "toy", BATCH, (2,)).close()


def test_only_float32_goes_in(tmp_path):
    with pytest.raises(InputError, match="takes float32, got float64"):
        NativeClock(tmp_path / "none.so", "toy", BATCH.astype(np.float64), (2,))


@needs_compiler
def test_closing_ends_the_child(library):
    clock = NativeClock(library(), "toy", BATCH, (2,))
    clock.close()
    clock.close()
    with pytest.raises(ProcessLookupError):
        os.kill(clock.pid, 0)


# --- compiling --------------------------------------------------------------------------------------------------------

PROGRAM = "#include <stdio.h>\nint main(void) { puts(WORD); return 0; }\n"


@pytest.fixture
def source(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGELINE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CC", raising=False)
    path = tmp_path / "hello.c"
    path.write_text(PROGRAM)
    return path


def say(program):
    return subprocess.run([program], capture_output=True, text=True, check=True).stdout


@needs_compiler
def test_compiled_once_for_the_same_source_flags_and_compiler(source, monkeypatch):
    first = compile_c(source, ['-DWORD="one"'])
    assert say(first) == "one\n"
    monkeypatch.setattr(c_compiler, "_compile", lambda *_: pytest.fail("it was compiled again"))
    assert compile_c(source, ['-DWORD="one"']) == first


@needs_compiler
def test_another_source_flag_or_cpu_is_another_program(source, monkeypatch):
    paths = [compile_c(source, ['-DWORD="one"']), compile_c(source, ['-DWORD="two"'])]
    source.write_text(PROGRAM.replace("return 0", "return 1 - 1"))
    paths.append(compile_c(source, ['-DWORD="one"']))
    monkeypatch.setattr(c_compiler, "_cpu", lambda: "another model")
    paths.append(compile_c(source, ['-DWORD="one"']))
    assert len(set(paths)) == 4
    assert [say(path) for path in paths] == ["one\n", "two\n", "one\n", "one\n"]


@needs_compiler
def test_a_damaged_program_is_compiled_again(source):
    path = compile_c(source, ['-DWORD="one"'])
    path.resolve().write_text("#!/bin/sh\necho trapped\n")
    assert say(compile_c(source, ['-DWORD="one"'])) == "one\n"


@needs_compiler
def test_a_source_that_is_refused(source):
    source.write_text("int main(void) { return nothing; }\n")
    with pytest.raises(EdgelineError, match=r"does not compile hello.c: .*'nothing' undeclared"):
        compile_c(source)


def test_no_compiler_says_what_to_install(source, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingCapabilityError, match="there is no C compiler here .*apt-get install gcc"):
        compile_c(source)


def test_a_compiler_that_is_named_must_be_there(source, monkeypatch):
    monkeypatch.setenv("CC", "no-such-compiler -m32")
    with pytest.raises(MissingCapabilityError, match="CC names 'no-such-compiler', which is not on the path"):
        compile_c(source)
