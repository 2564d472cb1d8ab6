"""Doubles of TensorRT, TensorRT-RTX and CUDA's runtime that run ONNX graphs on the CPU and catch misuse.

    with gpu_double("trt10") as world:
        ...                             # edgeline.cuda, cuda.bindings.runtime and tensorrt are doubles in here

They offer what edgeline's builder and session use, under the real names (test_double holds them against the real
packages). Work on a stream is put off until it is waited for; memory that nobody has written holds NaN; whatever real
CUDA or TensorRT would answer with undefined behaviour is recorded, and fails the test at the end of the block.
"""

from tests.doubles.install import gpu_double
from tests.doubles.world import FLAVOURS, Faults, World

__all__ = ["FLAVOURS", "Faults", "World", "gpu_double"]
