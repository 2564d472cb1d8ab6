"""The picture of `train-model MODEL --plot-activations coat,sweater`: images, and what two layers make of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from edgeline.errors import InputError
from edgeline_train.activations import FeatureMaps, feature_maps, predictions_of, tile
from edgeline_train.figures import check_picture, new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_MAPS = 64  # of a layer: more become too small to see anything in
_HEIGHT_IN = 2.9  # of a row; a layer is as wide as its maps, laid out, come out
_IMAGE_IN = 1.8


def plot_activations(
    network: nn.Module,
    images: npt.NDArray[np.uint8],
    labels: Sequence[int],
    label_names: Sequence[str],
    to_input: Callable[[Tensor], Tensor],
    path: Path,
) -> None:
    """Draw a row for each of the images, uint8 [k, H, W]: itself, then the maps of the first and the second layer.

    `labels` are their classes; `to_input` makes the network's input of uint8 [k, H, W] on its device. One scale of
    colours holds for all maps of a layer. Raises InputError for a network without convolutions or a suffix that is
    neither .png nor .svg, MissingCapabilityError without matplotlib, OSError.
    """
    check_picture(path)
    device = next(network.parameters()).device
    layers = feature_maps(network, to_input(torch.from_numpy(images.copy()).to(device)))
    if not layers:
        raise InputError("the network has no convolution (nn.Conv2d): there are no feature maps to draw")
    predictions = predictions_of(network, images, to_input)
    rows, columns = len(images), 1 + len(layers)
    shown = [layer.maps[:, :_MOST_MAPS].numpy() for layer in layers]
    widths = [_IMAGE_IN] + [_HEIGHT_IN * width / height for height, width in (tile(maps[0]).shape for maps in shown)]
    figure = new_figure(sum(widths) + 0.3 * len(widths), _HEIGHT_IN * rows + 1.1 + 0.2 * rows)
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08)  # type: ignore[union-attr, call-arg]  # that of constrained
    grid: npt.NDArray[np.object_] = figure.subplots(rows, columns, squeeze=False, width_ratios=widths)
    for row, (image, label, predicted) in enumerate(zip(images, labels, predictions, strict=True)):
        _draw(grid[row, 0], image, "gray", 0, 255)
        grid[row, 0].set_title(_caption(label_names, int(label), int(predicted)), fontsize=11)
    for column, (layer, maps) in enumerate(zip(layers, shown, strict=True), 1):
        low, high = float(maps.min()), float(maps.max())
        for row in range(rows):
            _draw(grid[row, column], tile(maps[row]), "viridis", low, high)
        grid[0, column].set_title(_title(layer), fontsize=11)
        bar = figure.colorbar(
            grid[0, column].images[0],
            ax=list(grid[:, column]),
            location="bottom",
            shrink=0.7,
            aspect=30,
            pad=0.02,
            panchor=False,
        )
        bar.ax.tick_params(labelsize=9)
        bar.outline.set_visible(False)
    save_figure(figure, path)


def _draw(axes: Axes, picture: npt.NDArray[np.generic], colours: str, low: float, high: float) -> None:
    axes.imshow(picture, cmap=colours, vmin=low, vmax=high, interpolation="nearest")
    axes.set_axis_off()


def _caption(names: Sequence[str], label: int, predicted: int) -> str:
    return names[label] if label == predicted else f"{names[label]},\ntaken for {names[predicted]}"


def _title(layer: FeatureMaps) -> str:
    channels, height, width = layer.maps.shape[1:]
    count = f"{channels} maps" if channels <= _MOST_MAPS else f"the first {_MOST_MAPS} of {channels} maps"
    return f"{layer.name}{f', {layer.activation}' if layer.activation else ''}\n{count} of {height} x {width}"
