"""`deploy/checks/check-templates FOLDER`: every offline check that judges what the templates mean.

Prints a line `FILE:RESOURCE: what is wrong` per finding. Exits 0 if there is none, 1 if there is any.
"""

import argparse
import os
import sys
from pathlib import Path

from . import judge, lint
from .finding import Finding

# Lines for one resource: more say no more.
MOST = 20


def lines(found):
    """What is printed: a line for each finding, together for each resource, and at most MOST of one."""
    groups = {}
    for one in found:
        groups.setdefault((one.file, one.resource), []).append(one)
    for (file, resource), group in groups.items():
        shown = group if len(group) <= MOST else group[:MOST - 1]
        yield from map(str, shown)
        if len(group) > len(shown):
            yield f"{file}:{resource}: and {len(group) - len(shown)} more"


def main(arguments=None):
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="check-templates", description=__doc__.splitlines()[0],
                                     epilog="Exits 0 without a finding, 1 with one, 2 if FOLDER is none.")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="laid out as deploy/templates")
    folder = parser.parse_args(arguments).folder
    if not folder.is_dir():
        parser.error(f"{folder} is not a folder")
    found = judge.check(folder)
    # Seconds, which nobody needs to spend who has a finding already.
    if not found:
        found = _linted(folder)
    try:
        for line in lines(found):
            print(line)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has closed the pipe; without this, Python would report that again when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1 if found else 0


def _linted(folder):
    try:
        return list(lint.findings(folder))
    except Exception as error:
        return [Finding("-", "cfn-lint", f"fails on these templates: {type(error).__name__}: {error}")]


if __name__ == "__main__":
    sys.exit(main())
