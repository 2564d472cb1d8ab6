"""A network that compiles in a moment, for tests of what stands around the generated sources."""

import functools

import numpy as np
import torch

from edgeline_export.c.emit import Heading, sources
from edgeline_export.c.lower import lower
from edgeline_export.c.passes import prepared
from edgeline_export.c.pixels import pixels_for
from edgeline_export.c.read import network_from_onnx
from edgeline_export.graph import clean_graph
from edgeline_export.torch_source import graph_from_module

HEADING = Heading("0" * 64, "edgeline", "a test")


@functools.cache
def tiny_graph(channels=1, size=8, hidden=0):
    """Conv, ReLU, and one or two fully connected layers: [n, channels, size, size] -> [n, 4]."""
    torch.manual_seed(0)
    features = 3 * (size - 2) ** 2
    behind = (
        [torch.nn.Linear(features, hidden), torch.nn.Linear(hidden, 4)] if hidden else [torch.nn.Linear(features, 4)]
    )
    network = torch.nn.Sequential(torch.nn.Conv2d(channels, 3, 3), torch.nn.ReLU(), torch.nn.Flatten(), *behind)
    return clean_graph(graph_from_module(network.eval(), (channels, size, size)))


def tiny_sources(graph, target, preprocessing=None, name="tiny"):
    """The program of a graph, its pixels, and its files."""
    program = lower(prepared(network_from_onnx(graph, name)), target)
    pixels = pixels_for(program, preprocessing)
    return program, pixels, sources(program, target, HEADING, pixels)


def tiny_batch(channels=1, size=8, count=11):
    return np.random.default_rng(1).standard_normal((count, channels, size, size)).astype(np.float32)
