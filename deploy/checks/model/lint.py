"""cfn-lint over a folder of templates, and the rules that need its schemas. What passed once is
remembered by its content.
"""

import hashlib
import importlib.metadata
import os
from pathlib import Path

from . import invariants, synth
from .finding import Finding

REGIONS = ("eu-west-1", "us-east-1", "ap-southeast-1")


def findings(folder):
    """A finding for each template and problem; warnings count."""
    passed = _Passed()
    paths = [path for path in sorted(Path(folder).resolve().glob("*.yaml")) if not passed.has(path)]
    if not paths:
        return
    from cfnlint.config import ConfigMixIn, ManualArgs
    from cfnlint.runner import Runner

    # Only what is given here counts: no .cfnlintrc, and no arguments of the process.
    config = ConfigMixIn([], **ManualArgs(templates=[str(path) for path in paths], regions=list(REGIONS)))
    problems = {}
    for match in Runner(config).run():
        # A parse error has no path.
        steps = [str(step) for step in getattr(match, "path", None) or []]
        resource = steps[1] if len(steps) > 1 else "-"
        problems.setdefault(Path(match.filename).stem, []).append(
            (resource, f"{match.rule.id} {' '.join(match.message.split())}"))
    names = {path.stem for path in paths}
    templates, _ = synth.load(folder)
    for found in invariants.slow_findings({name: body for name, body in templates.items() if name in names}):
        problems.setdefault(found.file, []).append((found.resource, found.text))
    for path in paths:
        if path.stem not in problems:
            passed.add(path)
        for resource, text in problems.get(path.stem, []):
            yield Finding(path.stem, resource, text)


class _Passed:
    """Hashes of templates without a problem, one a file, in the folder of the Python environment."""

    def __init__(self):
        root = os.environ.get("ADTRACK_LINT_CACHE")
        self._folder = Path(root) if root else None
        version = importlib.metadata.version("cfn-lint")
        self._salt = f"{version} {' '.join(REGIONS)}".encode()

    def has(self, path):
        return self._folder is not None and (self._folder / self._name(path)).exists()

    def add(self, path):
        if self._folder is None:
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            (self._folder / self._name(path)).touch()
        except OSError:
            # Only a run that is faster next time.
            pass

    def _name(self, path):
        return hashlib.sha256(self._salt + path.read_bytes()).hexdigest()
