"""`package.module:factory`: a torch module of the user's own, by name. It needs torch and nothing of the exporter."""

from __future__ import annotations

import importlib
import os
import sys

from torch import nn

from edgeline.errors import InputError, UnknownNameError


def module_from_factory(path: str) -> nn.Module:
    """Import and call `package.module:factory`. Raises InputError when that is not there or returns no module."""
    module_name, _, factory_name = path.partition(":")
    if os.getcwd() not in sys.path:  # noqa: PTH109 - sys.path holds strings
        sys.path.insert(0, os.getcwd())  # noqa: PTH109
    # Whatever the user's code raises is the user's, SystemExit included.
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        where = "; it is looked for in the current folder and on PYTHONPATH" if isinstance(error, ImportError) else ""
        raise InputError(f"{path} cannot be imported: {_words(error)}{where}") from error
    if not hasattr(module, factory_name):
        raise UnknownNameError(f"factory of {module_name}", factory_name, [n for n in vars(module) if n[0] != "_"])
    factory = getattr(module, factory_name)
    try:
        network = factory()
    except (Exception, SystemExit) as error:
        raise InputError(f"{path} raised {_words(error)}") from error
    if not isinstance(network, nn.Module):
        raise InputError(f"{path} returned {type(network).__name__}, not a torch.nn.Module")
    return network.eval()


def _words(error: BaseException) -> str:
    """Return an exception's kind and text on one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
