"""`package.module:factory`: a torch module of the user's own, by name. It needs torch and nothing of the exporter."""

from __future__ import annotations

import importlib
import os
import sys

from edgeline.errors import InputError
from torch import nn


def module_from_factory(path: str) -> nn.Module:
    """Import and call `package.module:factory`. Raises InputError when that is not there or returns no module."""
    module_name, _, factory_name = path.partition(":")
    if os.getcwd() not in sys.path:  # noqa: PTH109 - sys.path holds strings
        sys.path.insert(0, os.getcwd())  # noqa: PTH109
    try:
        factory = getattr(importlib.import_module(module_name), factory_name)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"{path} cannot be imported: {error}") from None
    try:
        network = factory()
    except Exception as error:
        raise InputError(f"{path} raised {type(error).__name__}: {error}") from error
    if not isinstance(network, nn.Module):
        raise InputError(f"{path} returned {type(network).__name__}, not a torch.nn.Module")
    return network.eval()
