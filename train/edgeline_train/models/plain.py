"""A network as it runs after training: weights that are computed from others (torch's parametrisations) made plain."""

from __future__ import annotations

import copy

from torch import nn
from torch.nn.utils import parametrize


def plain_network(network: nn.Module) -> nn.Module:
    """Return `network` itself, or where any of its tensors is parametrised, a copy that holds their values instead.

    Give it in eval mode: spectral_norm, for one, computes other values while it trains.
    """
    if not any(parametrize.is_parametrized(module) for module in network.modules()):
        return network
    plain = copy.deepcopy(network)
    for module in plain.modules():
        if parametrize.is_parametrized(module):
            _make_plain(module)
    return plain


def _make_plain(module: nn.Module) -> None:
    """Put values in place of what computes them.

    Not by torch's remove_parametrizations: it changes the class that parametrising gave the module, and a copy shares
    that class with its original, which would lose its weights.
    """
    names = list(module.parametrizations)  # type: ignore[arg-type]  # a ModuleDict, once parametrised
    values = {name: getattr(module, name).detach() for name in names}
    module.__class__ = parametrize.type_before_parametrizations(module)
    del module.parametrizations
    for name, value in values.items():
        module.register_parameter(name, nn.Parameter(value, requires_grad=False))
