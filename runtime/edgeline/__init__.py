"""Edgeline's runtime: what a device installs. It needs numpy; an engine is imported only when an artefact asks for it.

with edgeline.load("artifacts/lenet-mnist-10k.fp32.onnx") as model:
    logits = model.infer(batch)       # float32 [N, 1, 28, 28] -> float32 [N, 10]
    classes = model.classify(images)  # uint8 [N, 28, 28] -> int64 [N]
"""

from edgeline.loading import load
from edgeline.session import Session
from edgeline.version import __version__

__all__ = ["Session", "__version__", "load"]
