"""Times the C functions of an engine through native_clock.c: a child that calls them with no Python in between.

For engines so fast that Python's own call would be a share of the figure. The library's functions are those of the C
format: `size_t NAME_arena_bytes(size_t n)` and
`int NAME_infer(const float *input, float *logits, size_t n, void *arena, size_t arena_bytes)`.
The child has the cores of the process that starts it, and sleeps between slots (it reads from a pipe).
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeline.errors import EdgelineError, InputError, ResourceError
from edgeline_bench.c_compiler import compile_c

_SOURCE = Path(__file__).with_name("native_clock.c")
_FLAGS = ("-O2", "-std=c11", "-ldl")


@dataclass(frozen=True, slots=True)
class NativeSlot:
    """One turn: seconds per call, all calls made, and the time they took together.

    With `calls_per_sample` above 1 a sample is the mean of so many calls: single ones would be near the clock's step.
    """

    samples_s: list[float]
    calls: int
    calls_per_sample: int
    elapsed_s: float
    warmup_calls: int


class NativeClock:
    """A library's function, made ready on one batch. A context manager: the child ends with it.

    `first_output` [N, ...] is what the first call computed, `first_s` how long it took, `arena_bytes` the memory that
    it works in, `clock_overhead_s` what one reading of the clock costs.
    """

    def __init__(self, library: Path, name: str, batch: npt.NDArray[np.float32], output_tail: tuple[int, ...]) -> None:
        """Load `library`, call NAME_infer once on `batch`, float32 [N, ...] -> float32 [N, *output_tail].

        Raises InputError when the library or its functions are missing or NAME_infer returns an error code,
        ResourceError when it crashes, MissingCapabilityError without a C compiler.
        """
        if batch.dtype != np.float32:
            raise InputError(f"{name}_infer takes float32, got {batch.dtype}")
        program = compile_c(_SOURCE, _FLAGS)
        self._what = f"{name}_infer of {library.name}"
        output_shape = (len(batch), *output_tail)
        with tempfile.TemporaryDirectory() as folder:
            given, made = Path(folder) / "in", Path(folder) / "out"
            given.write_bytes(np.ascontiguousarray(batch).tobytes())
            sizes = (len(batch), batch.size, int(np.prod(output_shape)))
            self._child = subprocess.Popen(
                [program, library.resolve(), name, *map(str, sizes), given, made],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            )  # fmt: skip
            try:
                ready = self._answer()
                self.first_output = np.fromfile(made, np.float32).reshape(output_shape)
            except BaseException:
                self.close()
                raise
        self.arena_bytes: int = ready["arena_bytes"]
        self.first_s: float = ready["first_s"]
        self.clock_overhead_s: float = ready["clock_overhead_s"]

    @property
    def pid(self) -> int:
        """The child's number: its memory is the engine's."""
        return self._child.pid

    def measure(self, slot_s: float) -> NativeSlot:
        """Warm up until stable, then call for `slot_s` seconds, at least once. Raises as `__init__` does."""
        assert self._child.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended: _answer says how
            self._child.stdin.write(f"{slot_s!r}\n")
            self._child.stdin.flush()
        return NativeSlot(**self._answer())

    def close(self) -> None:
        """End the child."""
        self._child.kill()
        self._child.wait()
        for stream in (self._child.stdin, self._child.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()

    def __enter__(self) -> NativeClock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _answer(self) -> dict[str, Any]:
        assert self._child.stdout is not None
        line = self._child.stdout.readline()
        if not line:
            code = self._child.wait()
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            raise ResourceError(f"{self._what} ended without an answer ({how}): the library crashed, or was killed")
        try:
            answer: dict[str, Any] = json.loads(line)
        except ValueError:  # the library printed something
            raise EdgelineError(f"{self._what}: expected an answer of the clock on stdout, got '{line[:80]}'") from None
        if "error" in answer:
            number = f" {answer['code']}" if answer["code"] else ""
            raise InputError(f"{self._what}: {answer['error']}{number}")
        return answer
