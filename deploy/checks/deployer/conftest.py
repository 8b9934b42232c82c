"""Makes the modules next to the tests, the deploy tools, the emulator and the evaluator importable."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
CHECKS = HERE.parent
sys.path[:0] = [str(HERE), str(CHECKS), str(CHECKS.parent)]
sys.path.append(str(CHECKS / "emulator"))
