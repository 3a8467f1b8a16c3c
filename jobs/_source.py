"""Puts the package that lies beside this folder on the path: `ray job submit --working-dir .` installs nothing."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "platform"))
