"""Makes the modules next to the tests, the deploy tools and the policy evaluator importable."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
CHECKS = HERE.parent
sys.path[:0] = [str(HERE), str(CHECKS), str(CHECKS.parent)]
