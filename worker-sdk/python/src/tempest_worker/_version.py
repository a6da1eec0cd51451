"""The version, in a module of its own so that no import cycle can form. It must match `pyproject.toml`."""

__version__ = "0.1.0"
