"""QuantizeLinear and DequantizeLinear."""

from __future__ import annotations

from edgeline.errors import InputError
from edgeline_export.c.ir import Operation
from edgeline_export.c.nodes.given import Given


def read_linear(given: Given) -> Operation:
    """Read either of an activation, with one constant scale and zero point."""
    constants = [values for values in (given.constant(1), given.constant(2)) if values is not None]
    if any(values.size != 1 for values in constants):
        raise InputError("a scale for each channel of an activation, where one for all is taken")
    if not given.attributes.get("saturate", 1) or constants[0].dtype.name != "float32":
        raise InputError(f"a scale of {constants[0].dtype.name}, where float32 and saturation are taken")
    scale = float(constants[0].reshape(-1)[0])
    if not scale > 0:
        raise InputError(f"the scale {scale}, where one above 0 is taken")
    zero = int(constants[1].reshape(-1)[0]) if len(constants) > 1 else 0
    return given.operation({"scale": scale, "zero_point": zero}, inputs=1)
