"""The command line. Only here is anything printed."""

from mlxdistill.cli.main import main

__all__ = ["main"]
