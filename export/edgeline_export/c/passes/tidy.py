"""Takes Reshapes out of the way: two in a row become one, one that changes nothing goes, activations move before it."""

from __future__ import annotations

from dataclasses import replace

from edgeline_export.c.ir import Network, Operation
from edgeline_export.c.passes.draft import Draft
from edgeline_export.c.passes.fuse import ACTIVATIONS


def tidy(network: Network) -> Network:
    """Return the network with as few Reshapes between layers as can be."""
    draft = Draft(network)
    while any(_moved(draft, o) or _merged(draft, o) for o in draft.operations if o.operator == "Reshape"):
        pass
    return draft.network()


def _moved(draft: Draft, reshape: Operation) -> bool:
    """Let the activation behind a Reshape come before it, where a layer can take it in."""
    reader = draft.sole_reader(reshape.output)
    source = draft.tensors[reshape.inputs[0]]
    if reader is None or reader.operator not in ACTIVATIONS or not draft.is_float(reader):
        return False
    if source.name == draft.given.input:
        return False
    between = draft.tensor(f"{reader.output}, before '{reshape.nodes[0]}'", source.shape)
    draft.put(reader)
    draft.put(
        reshape,
        replace(reader, inputs=(source.name,), output=between),
        replace(reshape, inputs=(between,), output=reader.output),
    )
    return True


def _merged(draft: Draft, reshape: Operation) -> bool:
    before = draft.producer(reshape.inputs[0])
    if before is not None and before.operator == "Reshape":
        draft.put(reshape, replace(reshape, inputs=before.inputs))
        return True
    source, result = reshape.inputs[0], reshape.output
    if draft.tensors[source] != replace(draft.tensors[result], name=source) or result == draft.given.output:
        return False
    if not any(result in operation.inputs for operation in draft.operations):
        return False
    for operation in list(draft.operations):
        if result in operation.inputs:
            inputs = tuple(source if name == result else name for name in operation.inputs)
            draft.put(operation, replace(operation, inputs=inputs))
    return True
