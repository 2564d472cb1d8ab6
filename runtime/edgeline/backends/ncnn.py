"""ncnn on the CPU: the network as pnnx wrote it, any number of samples in a call.

ncnn's own defaults are its recommended ones (ncnn's `option.h`) and stay: light mode, packed layouts, Winograd and
sgemm convolutions; its wiki's "openmp best practice" asks for no more threads than needed, which `threads` says. What
ncnn switches on for devices with float16 is switched off: fp32 means fp32. In bf16, weights and activations are stored
in bfloat16, and sums are kept in float32.

A batch is one call since ncnn has batches (Tencent/ncnn, issue 6274); inside, samples run one after another in each
layer, so that its time grows with the batch. ncnn spreads a layer over OpenMP's threads, which are the process's: those
of libgomp, with which ncnn's Linux packages are built, spin for a moment after each layer, also after the last one, and
stall where other programs compute. OMP_WAIT_POLICY=PASSIVE in the environment lets them sleep, at the cost of the next
call. With `threads` 1 there are none.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from edgeline.artefact import Artefact
from edgeline.errors import ArtefactError, InputError, MissingCapabilityError, ResourceError
from edgeline.session import Session

PARAM_FILE = "model.ncnn.param"
WEIGHTS_FILE = "model.ncnn.bin"
_BATCH_AXIS = 0
_MATRIX_LAYERS = ("Convolution", "Deconvolution", "InnerProduct", "Gemm", "MatMul")


class NcnnSession(Session):
    """Runs an artefact's network on ncnn. A call has an Extractor of its own; several may run at once."""

    engine: ClassVar[str] = "ncnn"

    def __init__(self, artefact: Artefact, device: str = "auto", threads: int = 1) -> None:
        """Load the network.

        Raises MissingCapabilityError without ncnn, for device="cuda", and where ncnn has no kernel in bfloat16;
        ArtefactError when ncnn refuses the files or they are not what the manifest says.
        """
        super().__init__(artefact, device, threads)
        if device == "cuda":
            raise MissingCapabilityError(f"{artefact.name} is for ncnn on the CPU: device='cpu' or 'auto' runs it")
        self.device = "cpu"
        try:
            import ncnn
        except ImportError as error:
            raise MissingCapabilityError(f"ncnn is not installed ({error}): pip install 'edgeline[peers]'") from None
        if not hasattr(ncnn.Mat, "batch"):
            raise MissingCapabilityError(
                f"ncnn {ncnn.__version__} has no batches: pip install --upgrade 'edgeline[peers]'"
            )
        self._mat = ncnn.Mat
        self._net: Any = ncnn.Net()
        self._set_options(self._net.opt)
        self._load(artefact)
        self._check_precision()

    def _set_options(self, options: Any) -> None:
        options.num_threads = self.threads
        options.use_vulkan_compute = False
        for name in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_int8_inference"):
            setattr(options, name, False)
        options.use_bf16_storage = options.use_bf16_packed = self.manifest.precision == "bf16"

    def _load(self, artefact: Artefact) -> None:
        """Load both files. ncnn has said why on stderr when it refuses one; it returns a number only."""
        for load, file in (
            (self._net.load_param, artefact.file(PARAM_FILE)),
            (self._net.load_model, artefact.file(WEIGHTS_FILE)),
        ):
            if load(str(file)) != 0:
                raise ArtefactError(f"ncnn refuses {file}: it is damaged or of another ncnn; export it again")
        ends = self._net.input_names(), self._net.output_names()
        if (len(ends[0]), len(ends[1])) != (1, 1):
            raise ArtefactError(
                f"{artefact.file(PARAM_FILE)} has the inputs {ends[0]} and outputs {ends[1]}, its manifest one each; "
                "export it again"
            )
        (self._input_index,), (self._output_index,) = self._net.input_indexes(), self._net.output_indexes()

    def _check_precision(self) -> None:
        """In bf16 each matrix product must have a kernel for it: ncnn runs the others in float32 without a word."""
        if self.manifest.precision != "bf16":
            return
        plain = [
            f"{layer.name} ({layer.type})"
            for layer in self._net.layers()
            if layer.type.startswith(_MATRIX_LAYERS) and not layer.support_bf16_storage
        ]
        if plain:
            raise MissingCapabilityError(f"ncnn has no bf16 on this machine for {', '.join(plain)}: export it in fp32")

    def _infer(self, batch: npt.NDArray[Any]) -> npt.NDArray[Any]:
        out = np.empty((len(batch), *self._output.shape[1:]), self._output_dtype)
        self._infer_into(batch, out)
        return out

    def _infer_into(self, batch: npt.NDArray[Any], out: npt.NDArray[Any]) -> None:
        net = self._net  # it stays while this call runs, also when another thread closes the session
        if net is None:
            raise InputError(f"this session of {self.artefact.name} is closed; load it again with edgeline.load")
        with net.create_extractor() as extractor:
            extractor.input(self._input_index, self._mat(batch, _BATCH_AXIS))
            code, found = extractor.extract(self._output_index)
            if code != 0:
                raise ResourceError(f"ncnn could not run {self.artefact.name} on {len(batch)} samples: code {code}")
            if found.n * found.w * found.h * found.d * found.c != out.size:
                raise ArtefactError(
                    f"ncnn gives {found.n} outputs of {found.w * found.h * found.d * found.c} numbers, the manifest of "
                    f"{self.artefact.name} says {list(out.shape)}: pnnx did not understand this network; take the "
                    "format onnx"
                )
            for i, sample in enumerate(out):
                # ncnn gives [c, d, h, w] without the leading ones; what it returns lies in its own memory.
                out[i] = np.asarray(found.batch(i)).reshape(sample.shape)

    def _close(self) -> None:
        self._net = None
