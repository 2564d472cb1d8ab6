"""LeNet on every device target, under QEMU: the same bits everywhere, what an image costs in instructions and bytes.

    python benchmarks/experiments/devices/devices.py --weights weights/lenet-mnist-10k.safetensors \
        weights/lenet-relu-mnist-10k.safetensors --out docs/results/devices

Exports with the command export-model, a process for each artefact, compiles its sources for each instruction set of the
target, and runs the test digits through them. Writes OUT.md and OUT.json. emx-onnx-cgen stands beside ours where it is
on the path. Nothing is timed: an emulator counts instructions, and they are no time.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import emx
import linux_digits
import numpy as np
import numpy.typing as npt
from board_digits import run_digits as run_board_digits

from edgeline.artefact import Artefact, open_artefact
from edgeline.backends.native import NativeSession
from edgeline.command import Parser, note, run_command
from edgeline.errors import EdgelineError, InputError, MissingCapabilityError
from edgeline.files import write_atomically
from edgeline.preprocessing import input_from_pixels
from edgeline_bench.tables import Table, markdown
from edgeline_export.c.targets import TARGETS, Target
from edgeline_train.data import DATASETS, load_split
from edgeline_train.models import MODELS

_DATASET = "mnist-10k"
# Of each Linux target: QEMU's program, and a CPU for each instruction set.
_LINUX = {
    "x86-64-v3": ("qemu-x86_64", ("max",)),
    "aarch64": ("qemu-aarch64", ("cortex-a53", "cortex-a76", "max")),
    "armv7": ("qemu-arm", ("cortex-a7",)),
    "riscv64": ("qemu-riscv64", ("rv64",)),
}
_BOARDS = ("cortex-m0plus", "cortex-m4", "cortex-m7", "cortex-m55")
_FLOAT_BOARDS = ("cortex-m4", "cortex-m7", "cortex-m55")
_ALLOWED = 1e-4  # of the largest logit, between two float32 orders of summation

# LeNet with ReLU: measured by hand on a machine of this kind, before this project had the same in code. No package of
# PyPI or Debian brings them, so this script cannot measure them again.
_BY_HAND = (
    ("CMSIS-NN, by hand", "int8", "cortex-m4", "2,180 k", "12.7 KB", "17.8 KB"),
    ("CMSIS-NN, by hand", "int8", "cortex-m55", "830 k", "", ""),
    ("onnx2c", "int8 (Q/DQ)", "cortex-m4", "3,100 k", "10.7 KB", "298 KB"),
    ("onnx2c", "fp32", "aarch64", "1,160 k", "", ""),
)


@dataclass(frozen=True, slots=True)
class Row:
    """A network on a target: how many digits, what the logits are, what an image costs (bytes, instructions)."""

    engine: str
    network: str
    precision: str
    target: str
    isa: str
    ran_on: str
    digits: int
    same_bits: int
    same_labels: int
    largest_difference: float
    instructions: int
    code_bytes: int
    weights_bytes: int | None
    arena_bytes: int | None
    stack_bytes: int | None

    @property
    def ram_bytes(self) -> int | None:
        """Arena and stack."""
        return None if self.arena_bytes is None or self.stack_bytes is None else self.arena_bytes + self.stack_bytes


@dataclass(frozen=True, slots=True)
class Network:
    """A network in a precision, its digits and the logits [n, 10] that x86-64 computes for them."""

    name: str
    precision: str
    weights: Path
    pixels: npt.NDArray[np.uint8]
    logits: npt.NDArray[np.float32]


def _export(weights: Path, network: str, precision: str, target: str, out: Path) -> Artefact:
    command = [
        sys.executable, "-m", "edgeline_export", network, "--weights", str(weights), "--format", "c", "--precision",
        precision, "--target", target, "--out", str(out), "--require-engine", "--json",
    ]  # fmt: skip
    note(" ".join(["export-model", *command[3:-1]]))
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise EdgelineError(f"export-model ended with exit code {done.returncode}: {done.stderr.strip()[-500:]}")
    return open_artefact(Path(json.loads(done.stdout)["artefact"]))


def _x86_logits(artefact: Artefact, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Return what the library computes; InputError where its instruction sets do not agree on integers."""
    preprocessing, shape = artefact.manifest.preprocessing, artefact.manifest.inputs[0].shape[1:]
    if preprocessing is None:
        raise InputError(f"{artefact.name} does not say how images become its input")
    batch = input_from_pixels(pixels, preprocessing, shape)
    variants = [variant.suffix for variant in TARGETS["x86-64"].variants]
    found = []
    for suffix in variants:
        try:
            with NativeSession(artefact, "cpu", variant=f"_{suffix}") as session:
                found.append(session.infer_all(batch))
        except MissingCapabilityError:
            note(f"this CPU does not run {suffix}")
    if artefact.manifest.precision == "int8" and any((one != found[0]).any() for one in found):
        raise EdgelineError("the instruction sets of x86-64 do not agree")
    return found[0]


def _row(network: Network, outputs: npt.NDArray[np.float32], **values: Any) -> Row:
    expected = network.logits[: len(outputs)]
    same = (outputs.view(np.uint32) == expected.view(np.uint32)).all(axis=1)
    row = Row(
        network=network.name,
        precision=network.precision,
        digits=len(outputs),
        same_bits=int(same.sum()),
        same_labels=int((outputs.argmax(axis=1) == expected.argmax(axis=1)).sum()),
        largest_difference=float(np.abs(outputs - expected).max()),
        **values,
    )
    note(f"  {row.engine}, {row.isa} on {row.ran_on}: {row.same_bits} of {row.digits} the same bits, "
         f"{row.instructions:,} instructions")  # fmt: skip
    return row


def _linux(network: Network, target: Target, out: Path) -> list[Row]:
    artefact = _export(network.weights, network.name, network.precision, target.name, out)
    record = artefact.manifest.compilation or {}
    qemu, cpus = _LINUX[target.name]
    rows = []
    for variant, cpu in zip(target.variants, cpus, strict=True):
        found = linux_digits.run_digits(artefact.folder, target, variant, network.pixels, qemu, cpu)
        rows.append(
            _row(
                network, found.outputs, engine="Edgeline", target=target.name, isa=variant.isa,
                ran_on=f"{qemu} -cpu {cpu}", instructions=found.instructions, code_bytes=found.code_bytes,
                weights_bytes=record["weights_bytes"], arena_bytes=record["u8_arena_bytes"], stack_bytes=None,
            )
        )  # fmt: skip
    return rows


def _board(network: Network, target: Target, out: Path, digits: int) -> list[Row]:
    artefact = _export(network.weights, network.name, network.precision, target.name, out)
    record = artefact.manifest.compilation or {}
    own = record["network"]
    found = run_board_digits(artefact.folder, target.name, network.pixels[:digits])
    if found.instructions != own["instructions"]:
        note(f"  the export counted {own['instructions']:,} instructions for its first input")
    return [
        _row(
            network, found.outputs, engine="Edgeline", target=target.name, isa=target.variants[0].isa,
            ran_on=record["board"]["machine"], instructions=own["instructions"], code_bytes=own["code_bytes"],
            weights_bytes=own["constants_bytes"], arena_bytes=own["arena_bytes"], stack_bytes=own["stack_bytes"],
        )
    ]  # fmt: skip


def _peers(network: Network, out: Path, digits: int) -> list[Row]:
    """Return emx-onnx-cgen's rows, where it is installed."""
    engine = f"emx-onnx-cgen {emx.version()}"
    rows = []
    artefact = _export(network.weights, network.name, network.precision, "aarch64", out)
    prefix = str((artefact.manifest.compilation or {})["prefix"])
    target, variant = TARGETS["aarch64"], TARGETS["aarch64"].variants[-1]
    source = {f"{prefix}.c": emx.source_of(artefact)}
    found = linux_digits.run_digits(
        artefact.folder, target, variant, network.pixels[:digits], "qemu-aarch64", "max", source
    )
    shown: dict[str, Any] = {"engine": engine, "weights_bytes": None, "arena_bytes": None}
    rows.append(
        _row(
            network, found.outputs, **shown, target=target.name, isa=" ".join(variant.flags), stack_bytes=None,
            ran_on="qemu-aarch64 -cpu max", instructions=found.instructions, code_bytes=found.code_bytes,
        )
    )  # fmt: skip
    artefact = _export(network.weights, network.name, network.precision, "cortex-m4", out)
    board = run_board_digits(artefact.folder, "cortex-m4", network.pixels[:digits], None, source, 1 << 19)
    rows.append(
        _row(
            network, board.outputs, **shown, target="cortex-m4", isa="armv7e-m", ran_on="mps2-an386",
            instructions=board.instructions, code_bytes=board.code_bytes, stack_bytes=board.stack_bytes,
        )
    )  # fmt: skip
    return rows


def _tried(rows: list[Row], missing: list[str], what: str, make: Callable[[], list[Row]]) -> None:
    try:
        rows += make()
    except (EdgelineError, OSError) as error:
        note(f"{what} is left out: {error}")
        missing.append(f"{what}: {error}")


def _text(rows: Sequence[Row], missing: Sequence[str], command: str) -> str:
    parts = [
        "# LeNet on device targets, under QEMU\n",
        f"Made by `{command}`.\n",
        "Instructions are what QEMU counts for one image, from pixels to logits; they are not cycles, and no time. The "
        "logits are held against those of the shared library for x86-64, all of whose instruction sets agree in int8. "
        "Bytes: code and weights are those of the network alone, RAM is arena and stack; the image (784 bytes) and the "
        "ten logits belong to the caller.\n",
    ]
    heading = ("network", "target", "instruction set", "emulated", "digits", "same bits", "same labels",
               "largest difference", "instructions", "code", "weights", "RAM")  # fmt: skip
    for precision in dict.fromkeys(row.precision for row in rows):
        cells = tuple(_cells(row) for row in rows if row.precision == precision and row.engine == "Edgeline")
        parts.append(markdown(Table(precision, heading, cells, 4)))
    others: list[tuple[str, ...]] = [
        (row.engine, row.network, row.precision, row.target, f"{row.instructions:,}", f"{row.code_bytes:,}",
         f"{row.stack_bytes:,}" if row.stack_bytes else "", f"{row.same_labels} of {row.digits}")
        for row in rows if row.engine != "Edgeline"
    ]  # fmt: skip
    others += [(f"{engine} *", "lenet-relu", *rest, "") for engine, *rest in _BY_HAND]
    titles = ("engine", "network", "precision", "target", "instructions", "code", "RAM", "same labels")
    words = (
        "emx-onnx-cgen is compiled with the flags of ours; with its options for no heap all that it computes lies on "
        "the stack, which is the RAM shown.\n"
        "\\* Not measured by this script: figures of an earlier trial by hand, on the same emulators."
    )
    parts.append(markdown(Table("Others", titles, tuple(others), 4, words)))
    if missing:
        parts.append("\n".join(["## Left out", "", *(f"- {line}" for line in missing), ""]))
    return "\n".join(parts)


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.network, row.target, row.isa, row.ran_on, f"{row.digits:,}", f"{row.same_bits:,}", f"{row.same_labels:,}",
        f"{row.largest_difference:.2g}", f"{row.instructions:,}", f"{row.code_bytes:,}", f"{row.weights_bytes:,}",
        "" if row.ram_bytes is None else f"{row.ram_bytes:,}",
    )  # fmt: skip


def _body(args: argparse.Namespace) -> None:
    rows: list[Row] = []
    missing: list[str] = []
    digits = load_split(DATASETS[_DATASET], "test").images[: args.digits]
    for weights in args.weights:
        name = weights.stem.removesuffix(f"-{_DATASET}")
        if name not in MODELS:
            raise InputError(f"{weights} is not named MODEL-{_DATASET}.safetensors")
        for precision in ("int8", "fp32"):
            here = _export(weights, name, precision, "x86-64", args.work)
            network = Network(name, precision, weights, digits, _x86_logits(here, digits))
            jobs: list[tuple[str, Callable[[], list[Row]]]] = [
                (t, partial(_linux, network, TARGETS[t], args.work)) for t in _LINUX
            ]
            boards = _BOARDS if precision == "int8" else _FLOAT_BOARDS
            jobs += [(t, partial(_board, network, TARGETS[t], args.work, args.board_digits)) for t in boards]
            jobs.append((emx.PROGRAM, partial(_peers, network, args.work, args.board_digits)))
            for what, make in jobs:
                _tried(rows, missing, f"{what}, {name} in {precision}", make)
    wrong = [row for row in rows if row.engine == "Edgeline" and not _agrees(row)]
    command = f"python benchmarks/experiments/devices/devices.py --weights {' '.join(w.name for w in args.weights)}"
    write_atomically(args.out.with_suffix(".md"), _text(rows, missing, command))
    record = {"command": command, "rows": [dataclasses.asdict(row) for row in rows], "left_out": missing}
    write_atomically(args.out.with_suffix(".json"), json.dumps(record, indent=1) + "\n")
    print(f"{args.out.with_suffix('.md')}: {len(rows)} rows, {len(missing)} left out")
    if wrong:
        raise EdgelineError(f"{len(wrong)} rows do not agree with x86-64, the first: {wrong[0]}")


def _agrees(row: Row) -> bool:
    if row.precision == "int8":
        return row.same_bits == row.digits
    return row.same_labels == row.digits and row.largest_difference < 1e-2


def main(argv: Sequence[str] | None = None) -> int:
    """Run the experiment; return its exit code."""
    return run_command(_parser(), _body, argv)


def _parser() -> argparse.ArgumentParser:
    parser = Parser("devices.py", "Run LeNet on every device target under QEMU, and write a table.")
    parser.add_argument(
        "--weights", type=Path, nargs="+", required=True, metavar="FILE", help="MODEL-mnist-10k weights"
    )
    parser.add_argument("--digits", type=int, default=2000, metavar="N", help="test digits on Linux targets")
    parser.add_argument("--board-digits", type=int, default=300, metavar="N", help="test digits on boards")
    parser.add_argument("--work", type=Path, default=Path("artifacts/devices"), metavar="FOLDER", help="for artefacts")
    parser.add_argument("--out", type=Path, default=Path("docs/results/devices"), metavar="PATH", help="without suffix")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
