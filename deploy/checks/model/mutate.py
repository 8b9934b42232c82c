"""The mutation score: how many of the generator's mutants the checks of `judge` find.

A mutant that only moves a number within its stated range (numbers.yaml) is none: the range says so. What
is not found is named in survivors.txt, with the reason.
"""

import argparse
import fnmatch
import functools
import multiprocessing
import os
import random
import re
import sys
import time
from collections import Counter
from pathlib import Path

from . import judge, mutants, numbers, synth

SURVIVORS = Path(__file__).with_name("survivors.txt")
# These have to reach the score; the others are shown.
PROVEN = ("network", "iam", "resource-policy", "acl", "endpoint", "alarm", "number")
LEAST_PERCENT = 95

_work = {}


def main():
    arguments = _arguments()
    templates, problems = synth.load(arguments.folder)
    problems += list(judge.findings(templates))
    if problems:
        sys.exit("the templates themselves are not as they should be:\n" + "\n".join(map(str, problems)))
    every = list(mutants.generate(templates, arguments.seed))
    chosen = every if arguments.all else _sample(every, arguments.sample, arguments.seed)
    if arguments.only:
        chosen = [mutant for mutant in chosen if mutant.category == arguments.only]
    started = time.monotonic()
    _work.update(templates=templates, mutants=chosen)
    with multiprocessing.get_context("fork").Pool(arguments.processes) as pool:
        verdicts = []
        for mutant, verdict in zip(chosen, pool.imap(_verdict, range(len(chosen)), chunksize=8), strict=True):
            verdicts.append(verdict)
            _show(mutant, verdict, arguments.verbose)
        pool.close()
        pool.join()
    sys.exit(_report(chosen, verdicts, len(every), time.monotonic() - started))


def _arguments():
    parser = argparse.ArgumentParser(prog="deploy/checks/mutate", description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=0, help="of the generator and of the sample (default 0)")
    parser.add_argument("--sample", type=int, default=600, metavar="N", help="so many mutants (default 600)")
    parser.add_argument("--all", action="store_true", help="all of them")
    parser.add_argument("--only", choices=mutants.CATEGORIES, help="those of one category")
    parser.add_argument("--folder", type=Path, default=synth.FOLDER, help="of the templates")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--verbose", action="store_true", help="what finds each mutant")
    return parser.parse_args()


def _sample(every, size, seed):
    """As many of each category, so that a small one counts too."""
    chance = random.Random(seed)
    found = []
    for category in mutants.CATEGORIES:
        of_category = [mutant for mutant in every if mutant.category == category]
        found += chance.sample(of_category, min(len(of_category), size // len(mutants.CATEGORIES)))
    return found


def _verdict(index):
    """What finds a mutant; `in range` if it is none; None if nothing does."""
    mutant, templates = _work["mutants"][index], _work["templates"]
    changed = mutant.apply(templates)
    found = next(judge.findings(changed), None)
    if found is not None:
        return str(found)
    name = mutant.template
    return "in range" if numbers.stays_within(name, templates[name], changed[name]) else None


@functools.cache
def _named():
    """Survivors that are known: (pattern, reason)."""
    lines = SURVIVORS.read_text().splitlines() if SURVIVORS.exists() else []
    return [tuple(part.strip() for part in line.split(" | ", 1))
            for line in lines if line and not line.startswith("#")]


def _reason(mutant):
    pattern = (reason for pattern, reason in _named()
               if fnmatch.fnmatchcase(mutant.name, re.sub(r"([\[?])", r"[\1]", pattern)))
    return next(pattern, None)


def _show(mutant, verdict, verbose):
    if verdict is None:
        print(f"survives, {mutant.category}: {mutant.name} | {_reason(mutant) or 'NOT NAMED'}", flush=True)
    elif verbose:
        print(f"{mutant.name} -> {verdict}")


def _report(chosen, verdicts, every, seconds):
    totals, caught, within = Counter(), Counter(), Counter()
    survivors = []
    for mutant, verdict in zip(chosen, verdicts, strict=True):
        if verdict == "in range":
            within[mutant.category] += 1
            continue
        totals[mutant.category] += 1
        caught[mutant.category] += verdict is not None
        if verdict is None:
            survivors.append(mutant)
    print(f"\n| {'category':<15} | mutants | in range | found | percent |")
    print("|-----------------|---------|----------|-------|---------|")
    failed = False
    for category in mutants.CATEGORIES:
        percent = 100 * caught[category] / totals[category] if totals[category] else 100
        below = category in PROVEN and percent < LEAST_PERCENT
        failed |= below
        print(f"| {category:<15} | {totals[category]:7} | {within[category]:8} | {caught[category]:5} "
              f"| {percent:7.1f} |" + (f" below {LEAST_PERCENT}" if below else ""))
    unnamed = sum(_reason(mutant) is None for mutant in survivors if mutant.category in PROVEN)
    print(f"{len(chosen)} of {every} mutants in {seconds:.0f} s; {len(survivors)} survive, "
          f"{unnamed} of them without a reason in {SURVIVORS.name}")
    return 1 if failed else 0


if __name__ == "__main__":
    main()
