"""Whether a plan that is about to run fits this machine and its artefact, so that the answer names what differs.

TensorRT would refuse most of this by itself, in words about its insides; some of it (another model's plan under the
right name) it would run. Which plan to take, `plans` says; building, which is the cure, is `edgeline build`.
"""

from __future__ import annotations

from edgeline.artefact import Artefact
from edgeline.cuda import Gpu
from edgeline.errors import ArtefactError
from edgeline.manifest import BatchRange
from edgeline.tensorrt.engine import End
from edgeline.tensorrt.plan_header import HEADER_BYTES, read_plan_header
from edgeline.tensorrt.plans import product_misfits, size_misfits, target_misfits
from edgeline.tensorrt.products import Product


def cure(artefact: Artefact) -> str:
    """Return the command that builds the artefact's engine anew."""
    return f"edgeline build {artefact.folder}"


def check_header(plan: bytes, what: str, artefact: Artefact, product: Product, gpu: Gpu) -> None:
    """Hold a plan's header against the product, its version and the GPU; `what` names the plan in messages.

    Raises ArtefactError with each difference and the command that builds the plan for this machine.
    """
    header = read_plan_header(plan[:HEADER_BYTES], what)
    misfits = product_misfits(header, product.info.name, product.version) + target_misfits(header.targets, gpu)
    if header.product == "TensorRT-RTX":
        # Of TensorRT's header nobody has said or shown that the size stands there; its deserialiser finds a cut.
        misfits += size_misfits(header, len(plan))
    if misfits:
        raise ArtefactError(f"{what} does not run here ({'; '.join(misfits)}): {cure(artefact)}")


def check_ends(ends: list[End], what: str, artefact: Artefact) -> None:
    """Hold an engine's inputs and outputs against the manifest. Raises ArtefactError when they differ."""
    ours = (("INPUT", artefact.manifest.inputs[0]), ("OUTPUT", artefact.manifest.outputs[0]))
    expected = [(mode, spec.name, spec.dtype, spec.shape) for mode, spec in ours]
    if ends != expected:
        raise ArtefactError(f"{what} has {_text(ends)}, its manifest says {_text(expected)}: {cure(artefact)}")


def check_batch(found: BatchRange, what: str, artefact: Artefact) -> None:
    """Refuse an engine that takes fewer batch sizes than the manifest promises, with ArtefactError."""
    batch = artefact.manifest.batch
    fixed = artefact.manifest.inputs[0].shape[0] != -1
    if not fixed and (found.min > batch.min or found.max < batch.max):
        raise ArtefactError(
            f"{what} takes batches of {found.min} to {found.max}, its manifest says {batch.min} to {batch.max}: "
            f"{cure(artefact)}"
        )


def _text(ends: list[End]) -> str:
    return "; ".join(f"{mode.lower()} {name} {dtype} {list(shape)}" for mode, name, dtype, shape in ends)
