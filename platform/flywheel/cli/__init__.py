"""``flywheel``: the command line. Thin: every command parses, imports one function, calls it, shows the result.

One file a group of commands. Heavy imports stay inside the commands, so ``--help`` answers at once.
"""

from flywheel.cli.main import main

__all__ = ["main"]
