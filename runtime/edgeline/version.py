"""The version of the whole distribution, in one place (pyproject.toml reads it from here)."""

__version__ = "0.1.0"
