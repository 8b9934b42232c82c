"""`deploy/checks/check-templates FOLDER`: every offline check that judges what the templates mean.

Prints a line `FILE:RESOURCE: what is wrong` per finding. Exits 0 if there is none, 1 if there is any.
"""

import argparse
import sys
from pathlib import Path

from . import judge, lint


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
        found = list(lint.findings(folder))
    for finding in found:
        print(finding)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
