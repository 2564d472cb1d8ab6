"""LeNet-5 as it was published, with its squashing function, learnt subsampling, connection table and output units.

After LeCun, Bottou, Bengio and Haffner, "Gradient-Based Learning Applied to Document Recognition", Proceedings of the
IEEE 86(11), 1998, section II.B and appendix A. Three networks: with full connections in C3 and a linear output; with
the paper's connection table in C3; and with its output units as well, which is the network of the paper, with its
60,000 trainable parameters. What is left out: the paper's training (a stochastic Levenberg-Marquardt), and the constant
j of its criterion, without which that criterion is the cross-entropy of the logits.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize

from edgeline_train.models.digit_codes import LENGTH, codes_for

_RANGE = 2.4  # weights start within 2.4 / the number of inputs of their unit (appendix A)
# Table I: the maps of S2 that each map of C3 reads.
C3_TABLE = (
    (0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5),
    (0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5),
    (0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5),
    (0, 1, 2, 3, 4, 5),
)  # fmt: skip


class ScaledTanh(nn.Module):
    """The squashing function of appendix A, 1.7159 tanh(2 a / 3), which maps 1 to 1 and -1 to -1. Any shape."""

    def forward(self, x: Tensor) -> Tensor:
        """Return an array of x's shape, within 1.7159 of 0."""
        return 1.7159 * torch.tanh(x * (2 / 3))


class Subsampling(nn.Module):
    """The mean of each 2 x 2 block times a learnt coefficient plus a learnt bias, one of each per map.

    float32 [N, C, H, W] -> [N, C, H / 2, W / 2], not yet squashed. The paper adds the four and multiplies: its
    coefficient is a quarter of this one.
    """

    def __init__(self, maps: int) -> None:
        super().__init__()
        self.coefficient = nn.Parameter(torch.empty(maps, 1, 1).uniform_(-_RANGE, _RANGE))
        self.bias = nn.Parameter(torch.empty(maps, 1, 1).uniform_(-_RANGE / 4, _RANGE / 4))

    def forward(self, x: Tensor) -> Tensor:
        """Return [N, C, H / 2, W / 2] of x, [N, C, H, W]."""
        return functional.avg_pool2d(x, 2) * self.coefficient + self.bias


class _Connections(nn.Module):
    """The parametrisation of a weight of which only some kernels exist.

    Kernels float32 [connections, k, k] <-> weight float32 [outputs, inputs, k, k], with zeros where there is none.
    """

    def __init__(self, table: tuple[tuple[int, ...], ...], inputs: int) -> None:
        super().__init__()
        self._shape = (len(table), inputs)
        pairs = [(output, source) for output, sources in enumerate(table) for source in sources]
        self.pairs: Tensor
        self.register_buffer("pairs", torch.tensor(pairs).T.contiguous(), persistent=False)  # int64 [2, connections]

    def forward(self, kernels: Tensor) -> Tensor:
        """Return the weight that the convolution reads."""
        weight = kernels.new_zeros(*self._shape, *kernels.shape[1:])
        return weight.index_put(tuple(self.pairs), kernels)

    def right_inverse(self, weight: Tensor) -> Tensor:
        """Return the kernels of a weight; what stands elsewhere in it is lost."""
        return weight[tuple(self.pairs)]


class PartialConv(nn.Conv2d):
    """A convolution without padding whose output map i reads the input maps of `table[i]` alone.

    float32 [N, inputs, H, W] -> [N, len(table), H - k + 1, W - k + 1]. Its parameters are the kernels that exist and a
    bias per map. edgeline_train.models.plain makes a plain convolution of it, which multiplies the zeros too.
    """

    def __init__(self, inputs: int, table: tuple[tuple[int, ...], ...], kernel_size: int) -> None:
        super().__init__(inputs, len(table), kernel_size)
        bias = torch.empty(len(table))
        with torch.no_grad():
            for output, sources in enumerate(table):
                limit = _RANGE / (len(sources) * kernel_size**2)
                self.weight[output].uniform_(-limit, limit)
                bias[output].uniform_(-limit, limit)
        self.bias = nn.Parameter(bias)
        parametrize.register_parametrization(self, "weight", _Connections(table, inputs))

    @property
    def kernels(self) -> Tensor:
        """The kernels that exist, float32 [connections, k, k]."""
        found: Tensor = self.parametrizations.weight.original  # type: ignore[union-attr,assignment]  # put there above
        return found


class RbfOutput(nn.Module):
    """Output units that say how far their input is from each class's code, as the paper's: y = sum_j (x_j - w_j)^2.

    float32 [N, 84] -> logits float32 [N, classes], which are -y: their cross-entropy is the paper's criterion (9)
    without its constant j. The codes are fixed: they are saved with the weights, and not trained.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.codes: Tensor
        self.register_buffer("codes", torch.tensor(codes_for(classes)))

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits, [N, classes], of x, [N, 84]."""
        # Subtracted before it is squared: |x|^2 - 2 x w + |w|^2 would lose digits where x is near a code.
        difference = x.unsqueeze(1) - self.codes  # [N, classes, 84]
        return -difference.square().sum(2)


class LeNet5(nn.Module):
    """float32 [N, 1, 32, 32] -> logits float32 [N, classes]. Layers have the paper's names."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.c1 = nn.Conv2d(1, 6, kernel_size=5)  # [N, 6, 28, 28]
        self.act1 = ScaledTanh()
        self.s2 = Subsampling(6)  # [N, 6, 14, 14]
        self.act2 = ScaledTanh()
        self.c3 = self._c3()  # [N, 16, 10, 10]
        self.act3 = ScaledTanh()
        self.s4 = Subsampling(16)  # [N, 16, 5, 5]
        self.act4 = ScaledTanh()
        self.c5 = nn.Conv2d(16, 120, kernel_size=5)  # [N, 120, 1, 1]
        self.act5 = ScaledTanh()
        self.flatten = nn.Flatten()  # [N, 120]
        self.f6 = nn.Linear(120, LENGTH)  # [N, 84]
        self.act6 = ScaledTanh()
        self.output = self._output(classes)
        for layer in self.modules():
            # A PartialConv has done it itself, by the inputs that each map has.
            if isinstance(layer, (nn.Conv2d, nn.Linear)) and not isinstance(layer, PartialConv):
                limit = _RANGE / layer.weight[0].numel()
                for parameter in layer.parameters():
                    nn.init.uniform_(parameter, -limit, limit)

    def _c3(self) -> nn.Conv2d:
        return nn.Conv2d(6, 16, kernel_size=5)

    def _output(self, classes: int) -> nn.Module:
        return nn.Linear(LENGTH, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits, [N, classes], of x, [N, 1, 32, 32]."""
        x = self.act2(self.s2(self.act1(self.c1(x))))
        x = self.act4(self.s4(self.act3(self.c3(x))))
        x = self.flatten(self.act5(self.c5(x)))
        logits: Tensor = self.output(self.act6(self.f6(x)))
        return logits


class LeNet5C3(LeNet5):
    """LeNet5 whose C3 reads S2 by the paper's Table I: 60 kernels instead of 96."""

    def _c3(self) -> nn.Conv2d:
        return PartialConv(6, C3_TABLE, kernel_size=5)


class LeNet5C3Rbf(LeNet5C3):
    """The whole network of the paper: Table I, and the distances from the digits' codes as its output."""

    def _output(self, classes: int) -> nn.Module:
        return RbfOutput(classes)
