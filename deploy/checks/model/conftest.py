"""Makes the model, the deploy tool and the list of rules importable."""

import sys
from pathlib import Path

CHECKS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(CHECKS), str(CHECKS.parent), str(CHECKS / "templates")]
