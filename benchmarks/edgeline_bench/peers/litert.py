"""LiteRT (TensorFlow Lite) with XNNPACK through its two Python APIs: the Interpreter and the newer CompiledModel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgeline.errors import EdgelineError
from edgeline_bench.engines import Call
from edgeline_bench.peers.engine import PeerEngine


class InterpreterPeer(PeerEngine):
    """The Interpreter, whose default delegate on the CPU is XNNPACK."""

    def import_packages(self) -> None:
        """Import the interpreter."""
        from ai_edge_litert import interpreter

        self._package = interpreter

    def open(self, model: Path) -> None:
        """Open the model, which was made for one batch size."""
        self._interpreter = self._package.Interpreter(model_path=str(model), num_threads=self.threads)
        self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._output = self._interpreter.get_output_details()[0]["index"]

    def bind(self, batch: Any) -> Call:
        """Return invoke() with the input set once, and a view of the output.

        Raises EdgelineError when a second run gives something else: its input would have been written over.
        """
        import numpy as np

        interpreter = self._interpreter
        interpreter.set_tensor(self._input, batch)
        invoke, view = interpreter.invoke, interpreter.tensor(self._output)

        def call() -> object:
            invoke()
            return view()

        first, second = np.array(call()), np.array(call())
        if not np.array_equal(first, second):
            raise EdgelineError("LiteRT's interpreter does not keep its input from one run to the next")
        return call


class CompiledModelPeer(PeerEngine):
    """The CompiledModel API of LiteRT 2, on the CPU."""

    def import_packages(self) -> None:
        """Import the compiled model's package."""
        from ai_edge_litert import compiled_model

        self._package = compiled_model

    def open(self, model: Path) -> None:
        """Compile the model, which was made for one batch size."""
        package = self._package
        options = package.Options(
            hardware_accelerators=package.HardwareAccelerator.CPU,
            cpu_options=package.CpuOptions(num_threads=self.threads),
        )
        self._model = package.CompiledModel.from_file(str(model), options=options)
        self._inputs = self._model.create_input_buffers(0)
        self._outputs = self._model.create_output_buffers(0)
        (signature,) = self._model.get_signature_list()
        (details,) = self._model.get_output_tensor_details(signature).values()
        self._shape = tuple(int(size) for size in details["shape"])

    def bind(self, batch: Any) -> Call:
        """Return run_by_index() with the input written once; the output is copied to numpy, there is no view."""
        import numpy as np

        self._inputs[0].write(batch)
        run, inputs, outputs, shape = self._model.run_by_index, self._inputs, self._outputs, self._shape
        count, read, float32 = int(np.prod(shape)), outputs[0].read, np.float32

        def call() -> object:
            run(0, inputs, outputs)
            return read(count, float32).reshape(shape)

        return call
