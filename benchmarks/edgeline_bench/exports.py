"""The forms of a network that are measured beside each other: exported where they are missing, left out with a reason.

Each export is the command export-model, in a process of its own: converters hold gigabytes and change global settings.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from edgeline.artefact import Artefact, open_artefact
from edgeline.backends import choose_engine
from edgeline.command import note
from edgeline.errors import ArtefactError, EdgelineError, InputError, MissingCapabilityError
from edgeline.files import sha256_of_file
from edgeline.tensorrt.preflight import need_engine
from edgeline_export.formats import FORMATS, format_from_name
from edgeline_export.formats.interface import Format
from edgeline_export.writer import artefact_folder_name
from edgeline_train.models import model_from_name
from edgeline_train.models.weights import find_weights, info_from_weights

ALL = "all"
_SIZES = (1, 8, 64)  # what export-model verifies by default


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to measure: a registered network, in these formats (ALL or names) and precisions, at these batch sizes.

    `weights` is a file or folder, None for the default one; `out` is where artefacts lie and are written.
    """

    model: str
    formats: tuple[str, ...]
    precisions: tuple[str, ...]
    batches: tuple[int, ...]
    weights: Path | None
    out: Path

    @property
    def sizes(self) -> tuple[int, ...]:
        """The batch sizes that an export is made for: those asked for, and those it would have by default."""
        return tuple(sorted({*_SIZES, *self.batches}))


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A form that is not in the table, and why."""

    format: str
    precision: str
    why: str

    def to_record(self) -> dict[str, str]:
        """Return the report's record."""
        return asdict(self)


def forms_of(wanted: Wanted) -> tuple[list[Artefact], list[LeftOut]]:
    """Return the artefacts of all forms that can be had and run here, exporting what is missing, and what is left out.

    Raises InputError for an unknown network or format, and for weights that are not there; MissingCapabilityError where
    a format that was asked for by name cannot be had, or nothing can.
    """
    model = model_from_name(wanted.model)
    weights = find_weights(model, wanted.weights)
    found: list[Artefact] = []
    left_out: list[LeftOut] = []
    for chosen in _formats(wanted.formats):
        for precision in _precisions(chosen, wanted):
            try:
                found.append(_form(chosen, precision, weights, wanted))
            except EdgelineError as error:
                if wanted.formats != (ALL,):
                    raise
                note(f"{chosen.name} {precision} is left out: {error}")
                left_out.append(LeftOut(chosen.name, precision, str(error)))
    if not found:
        raise MissingCapabilityError(f"no form of {wanted.model} can be measured here; export-model --list-formats")
    return found, left_out


def _formats(names: tuple[str, ...]) -> list[Format]:
    return list(FORMATS.values()) if names == (ALL,) else [format_from_name(name) for name in names]


def _precisions(chosen: Format, wanted: Wanted) -> list[str]:
    """Return the precisions; with all formats, beside fp32 bf16 too, which some engines take instead unless told."""
    also = ["bf16"] if wanted.formats == (ALL,) and "fp32" in wanted.precisions and "bf16" in chosen.precisions else []
    return list(dict.fromkeys([*wanted.precisions, *also]))


def _form(chosen: Format, precision: str, weights: Path, wanted: Wanted) -> Artefact:
    """Return one artefact, exported unless it is there. Raises EdgelineError where it cannot be had or cannot run."""
    if precision not in chosen.precisions:
        raise InputError(f"{chosen.name} has no {precision} here, but {', '.join(chosen.precisions)}")
    state = chosen.availability()
    if not state.available:
        raise MissingCapabilityError(f"{state.why}: {state.install}")
    engine = choose_engine(chosen.name, None)
    if engine == "tensorrt":
        _need_gpu()
    folder = wanted.out / artefact_folder_name(wanted.model, info_from_weights(weights).dataset, precision, chosen.name)
    if not _fits(folder, sha256_of_file(weights), wanted.sizes):
        _export(chosen.name, precision, weights, wanted)
    artefact = open_artefact(folder)
    need_engine(artefact, engine)
    return artefact


def _need_gpu() -> None:
    """An export for a GPU takes a while, and could not be run."""
    from edgeline.cuda import gpu

    if gpu() is None:
        raise MissingCapabilityError("no NVIDIA GPU to run on")


def _fits(folder: Path, weights_sha256: str, sizes: Sequence[int]) -> bool:
    """Say whether an artefact is there, made from these weights, and compiled for these batch sizes."""
    try:
        manifest = open_artefact(folder).manifest
    except ArtefactError as error:
        if folder.exists():
            note(f"{folder} is exported again: {error}")
        return False
    if manifest.source["weights_sha256"] != weights_sha256:
        note(f"{folder} is exported again: it was made from other weights")
        return False
    compiled = (manifest.compilation or {}).get("batches")
    return not isinstance(compiled, list) or set(sizes) <= set(compiled)  # others take any size


def _export(format_name: str, precision: str, weights: Path, wanted: Wanted) -> None:
    note(f"exporting {wanted.model} {precision} as {format_name}")
    command = [
        sys.executable, "-m", "edgeline_export", wanted.model, "--weights", weights, "--precision", precision,
        "--format", format_name, "--batch", ",".join(map(str, wanted.sizes)), "--out", wanted.out,
    ]  # fmt: skip
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if result.returncode != 0:
        last = (result.stderr.strip().splitlines() or [f"export-model ended with {result.returncode}"])[-1]
        raise EdgelineError(last.removeprefix("export-model: ").removeprefix("error: "))
