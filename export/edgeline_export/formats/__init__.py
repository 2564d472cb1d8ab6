"""The formats that a network can be exported to: one module each, in a literal table.

Adding a format: its module here (a class with the members of Format), its line in FORMATS, its test.
"""

from __future__ import annotations

from edgeline.errors import UnknownNameError
from edgeline_export.formats.aot_inductor import AotInductorFormat
from edgeline_export.formats.c import CFormat
from edgeline_export.formats.interface import Format
from edgeline_export.formats.iree import IreeFormat
from edgeline_export.formats.litert import LiteRtFormat
from edgeline_export.formats.ncnn import NcnnFormat
from edgeline_export.formats.onnx import OnnxFormat
from edgeline_export.formats.openvino import OpenVinoFormat
from edgeline_export.formats.trt import TrtFormat, TrtRtxFormat

FORMATS: dict[str, Format] = {
    "onnx": OnnxFormat(),
    "trt": TrtFormat(),
    "trt-rtx": TrtRtxFormat(),
    "c": CFormat(),
    "litert": LiteRtFormat(),
    "ncnn": NcnnFormat(),
    "openvino": OpenVinoFormat(),
    "aot-inductor": AotInductorFormat(),
    "iree": IreeFormat(),
}


def format_from_name(name: str) -> Format:
    """Look a format up. Raises UnknownNameError, which lists the nearest names."""
    if name not in FORMATS:
        raise UnknownNameError("format", name, FORMATS)
    return FORMATS[name]
