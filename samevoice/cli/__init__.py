"""The `samevoice` command: one small file for each group of commands, imported only when it is called."""

from samevoice.cli.app import main

__all__ = ["main"]
