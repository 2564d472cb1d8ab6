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
            for name in list(module.parametrizations):  # type: ignore[arg-type]  # a ModuleDict, once parametrised
                parametrize.remove_parametrizations(module, name, leave_parametrized=True)
    return plain
