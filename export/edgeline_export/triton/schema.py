"""Triton's published schema of a model's configuration (model_config.proto), and its text form, config.pbtxt.

The classes are those that `tritonclient` generates from the schema and ships, so that a field that Triton does not know
cannot be written, and one that a file holds is refused by name. What a field means they do not know: edgeline_export.
triton.rules does. Importing them takes gRPC with them, so they are imported when they are asked for.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from edgeline import interrupts
from edgeline.errors import InputError, MissingCapabilityError

_INSTALL = "pip install 'edgeline[triton]'"


def need_schema() -> None:
    """Raise MissingCapabilityError where the schema's package is not installed; nothing is imported."""
    missing = [name for name in ("tritonclient", "grpc") if find_spec(name) is None]
    if missing:
        raise MissingCapabilityError(
            f"a Triton repository needs Triton's schema ({' and '.join(missing)} not installed): {_INSTALL}"
        )


def schema() -> Any:
    """Import and return the module of the schema. Raises MissingCapabilityError where it cannot be."""
    need_schema()
    try:
        with interrupts.held():
            from tritonclient.grpc import model_config_pb2
    except ImportError as error:
        raise MissingCapabilityError(f"Triton's schema does not load ({error}): {_INSTALL}") from None
    return model_config_pb2


def text_of(config: Any) -> str:
    """Return a ModelConfig as the text of a config.pbtxt, read back once: what is returned is what Triton reads."""
    from google.protobuf import text_format

    text: str = text_format.MessageToString(config)
    if config_from_text(text, Path("config.pbtxt")) != config:
        raise ValueError(f"a configuration does not survive its text form: {text}")
    return text


def config_from_text(text: str, where: Path) -> Any:
    """Parse the text of a config.pbtxt. Raises InputError that names line, column and field where it is none."""
    from google.protobuf import text_format

    try:
        return text_format.Parse(text, schema().ModelConfig())
    except text_format.ParseError as error:
        raise InputError(f"{where} does not fit Triton's schema ({error}); repair it or move it away") from None
