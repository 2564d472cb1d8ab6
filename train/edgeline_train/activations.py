"""What a network's first convolutions answer to an image: the feature maps, by hooks on whatever network it is."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from edgeline.errors import InputError, UnknownNameError

# Names that people use for the labels of Fashion-MNIST. A label is always its own name first.
_ALIASES = {
    "sweater": "pullover",
    "jumper": "pullover",
    "pants": "trouser",
    "trousers": "trouser",
    "tshirt": "t-shirt",
    "tee": "t-shirt",
    "t-shirt/top": "t-shirt",
    "sandals": "sandal",
    "sneakers": "sneaker",
    "trainer": "sneaker",
    "trainers": "sneaker",
    "handbag": "bag",
    "boot": "ankle-boot",
    "boots": "ankle-boot",
}
# Of torch.nn.modules.activation, what mixes pixels or channels: no activation in the sense of this module.
_MIXING = (nn.Softmax, nn.Softmax2d, nn.LogSoftmax, nn.Softmin, nn.GLU, nn.MultiheadAttention)


@dataclass(frozen=True, slots=True)
class FeatureMaps:
    """A convolution's answers: its name in the network, `maps` float32 [k, C, H, W] on the CPU for k images.

    `activation` is the class of the activation behind which they were taken, "" for the convolution's own output.
    """

    name: str
    maps: Tensor
    activation: str = ""


def feature_maps(network: nn.Module, inputs: Tensor, layers: int = 2) -> list[FeatureMaps]:
    """Return the maps of the first `layers` convolutions, in the order in which they are run; fewer if it has fewer.

    A convolution is an nn.Conv2d or what derives from it. Where an activation module takes its output directly, the
    activation's output is returned, else the convolution's. `inputs` is what the network takes, on its device. The
    network runs once, in eval mode, and is left as it was.
    """
    recorder = _Recorder({module: name for name, module in network.named_modules()})
    handles = [
        module.register_forward_hook(recorder) for module in network.modules() if next(module.children(), None) is None
        or isinstance(module, nn.Conv2d)
    ]  # fmt: skip
    try:
        with _in_eval_mode(network), torch.no_grad():
            network(inputs)
    finally:
        for handle in handles:
            handle.remove()
    return [FeatureMaps(name, maps.float().cpu(), activation) for name, maps, activation in recorder.found[:layers]]


class _Recorder:
    """A forward hook: keeps what each convolution returned, and replaces it by what an activation made of it."""

    def __init__(self, names: dict[nn.Module, str]) -> None:
        self._names = names
        self._outputs: list[Tensor] = []  # as returned: kept alive, so that identity means "the same tensor"
        self.found: list[tuple[str, Tensor, str]] = []

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if isinstance(module, nn.Conv2d):
            self._outputs.append(output)
            # A copy: an activation that works in place would change it.
            self.found.append((self._names[module], output.detach().clone(), ""))
        elif len(inputs) == 1 and _is_activation(module, inputs[0], output):
            for i, seen in enumerate(self._outputs):
                if inputs[0] is seen:
                    self.found[i] = (self.found[i][0], output.detach().clone(), type(module).__name__)


def _is_activation(module: nn.Module, taken: Any, given: Any) -> bool:
    """Say whether a module works on each element alone: torch's own by its class, others if nothing contradicts it."""
    if not (isinstance(taken, Tensor) and isinstance(given, Tensor) and taken.shape == given.shape):
        return False
    home = type(module).__module__
    if home.startswith("torch.nn.modules."):
        return home == "torch.nn.modules.activation" and not isinstance(module, _MIXING)
    # A network's own module, such as a scaled tanh. Normalisation and learnt pooling have parameters.
    return next(module.parameters(), None) is None


@contextlib.contextmanager
def _in_eval_mode(network: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def classes_from_names(names: str, labels: Sequence[str]) -> list[int]:
    """Return the classes of names like "coat,sweater", in their order, repeated where a name is repeated.

    Upper case and spaces do not matter, and some everyday names stand for Fashion-MNIST's labels. Raises
    UnknownNameError for a name that is no label's, InputError when there is none at all.
    """
    known = {_plain(label): index for index, label in enumerate(labels)}
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    if not wanted:
        raise InputError(f"name classes, separated by commas; known: {', '.join(labels)}")
    classes = []
    for name in wanted:
        plain = _plain(name)
        index = known.get(plain, known.get(_ALIASES.get(plain, "")))
        if index is None:
            raise UnknownNameError("class", name, labels)
        classes.append(index)
    return classes


def examples_of(classes: Sequence[int], labels: npt.NDArray[np.int64], predictions: npt.NDArray[np.int64]) -> list[int]:
    """Return the index of one example a class: the first that the network gets right, else the first there is.

    A class that is named again gets the next one. `labels` and `predictions` are int64 [N]. Raises InputError when
    there are fewer examples than were asked for.
    """
    chosen: list[int] = []
    for wanted in classes:
        of_class = np.flatnonzero(labels == wanted)
        right = of_class[predictions[of_class] == wanted]
        free = [int(i) for i in (*right, *of_class) if i not in chosen]
        if not free:
            raise InputError(
                f"class {wanted} has only {len(of_class)} examples, {classes.count(wanted)} were asked for"
            )
        chosen.append(free[0])
    return chosen


def predictions_of(
    network: nn.Module, images: npt.NDArray[np.uint8], to_input: Callable[[Tensor], Tensor], batch: int = 250
) -> npt.NDArray[np.int64]:
    """Return the class with the largest logit, int64 [k], of uint8 images [k, H, W]; the network is left as it was."""
    device = next(network.parameters()).device
    with _in_eval_mode(network), torch.no_grad():
        parts = [
            network(to_input(torch.from_numpy(images[start : start + batch].copy()).to(device))).argmax(1).cpu()
            for start in range(0, len(images), batch)
        ]
    return np.asarray(torch.cat(parts).numpy(), np.int64)


def tile(maps: npt.NDArray[np.float32], gap: float = math.nan) -> npt.NDArray[np.float32]:
    """Lay maps [C, H, W] out in one picture, about square, row by row, `gap` between them and in the places left."""
    count, height, width = maps.shape
    columns = _columns(count)
    rows = math.ceil(count / columns)
    line = max(1, round(min(height, width) / 14))
    picture = np.full((rows * (height + line) - line, columns * (width + line) - line), gap, np.float32)
    for i, one in enumerate(maps):
        top, left = i // columns * (height + line), i % columns * (width + line)
        picture[top : top + height, left : left + width] = one
    return picture


def _columns(count: int) -> int:
    """Return how many stand in a row: as many as in a square, or somewhat more where that leaves no place empty."""
    root = math.ceil(math.sqrt(count))
    return next((c for c in range(root, int(1.5 * root) + 1) if count % c == 0), root)


def _plain(name: str) -> str:
    return name.strip().casefold().replace(" ", "-").replace("_", "-")
