"""Other people's engines, timed beside ours: one small class each, in a literal table.

Each is called through its own Python API, as its documentation recommends for latency, on arrays that were bound
beforehand. Adding one: its class in a module here, its line in PEERS, its test. `benchmarks/experiments/peers.py` runs
them; benchmark-model does not.
"""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass
from importlib.util import find_spec

from edgeline.errors import UnknownNameError


@dataclass(frozen=True, slots=True)
class Peer:
    """A row of the table.

    `engine` is the class that a worker hosts, `module` what must be importable, `distribution` whose version is told.
    `source` says what it reads: "graph" (the artefact's model.onnx), "nncf" (that graph in fp32, quantised by NNCF) or
    "tflite" (made beforehand, experiments/litert_models.py). `how` says in words how it is called.
    """

    name: str
    engine: str
    module: str
    distribution: str
    source: str
    precisions: tuple[str, ...]
    how: str

    @property
    def installed(self) -> bool:
        """Whether its package is there."""
        return find_spec(self.module) is not None

    @property
    def version(self) -> str | None:
        """The version that is installed; None where it is not."""
        try:
            return importlib.metadata.version(self.distribution)
        except importlib.metadata.PackageNotFoundError:
            return None


PEERS = (
    Peer(
        "onnxruntime",
        "edgeline_bench.peers.onnxruntime:OnnxRuntimePeer",
        module="onnxruntime",
        distribution="onnxruntime",
        source="graph",
        precisions=("fp32", "int8"),
        how="all graph optimisations, sequential, batch size fixed, run_with_iobinding on bound arrays",
    ),
    Peer(
        "openvino",
        "edgeline_bench.peers.openvino:OpenVinoPeer",
        module="openvino",
        distribution="openvino",
        source="graph",
        precisions=("fp32", "int8"),
        how="hint LATENCY, batch size fixed, infer(share_outputs=True) on bound tensors; fp32 with precision hint f32",
    ),
    Peer(
        "openvino-nncf",
        "edgeline_bench.peers.openvino:OpenVinoPeer",
        module="nncf",
        distribution="nncf",
        source="nncf",
        precisions=("int8",),
        how="as openvino, on the fp32 graph after nncf.quantize with the calibration digits of our own int8",
    ),
    Peer(
        "litert",
        "edgeline_bench.peers.litert:InterpreterPeer",
        module="ai_edge_litert",
        distribution="ai-edge-litert",
        source="tflite",
        precisions=("fp32", "int8"),
        how="Interpreter with XNNPACK, invoke() with the input set beforehand",
    ),
    Peer(
        "litert-compiled",
        "edgeline_bench.peers.litert:CompiledModelPeer",
        module="ai_edge_litert",
        distribution="ai-edge-litert",
        source="tflite",
        precisions=("fp32", "int8"),
        how="CompiledModel on the CPU, run_by_index() on buffers written beforehand",
    ),
)


def peer_from_name(name: str) -> Peer:
    """Return a row of PEERS. Raises UnknownNameError."""
    for peer in PEERS:
        if peer.name == name:
            return peer
    raise UnknownNameError("peer", name, [peer.name for peer in PEERS])
