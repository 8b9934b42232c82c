"""All judges over all scenarios: `findings(templates)` is what `check-templates` prints.

A judge is a function from a system to findings. One that fails on a template that nobody expected is a
finding of its own, so that no mutant ends in a traceback.
"""

import traceback

from . import (
    acl,
    alarms,
    allowed,
    containers,
    demands,
    elsewhere,
    iam,
    invariants,
    network,
    numbers,
    options,
    outputs,
    principals,
    resource_policies,
    rules,
    scenarios,
    storage,
    synth,
    wiring,
)
from .finding import Finding

# Judges of the templates themselves before, and after, those of one scenario's system; the cheap first.
TEMPLATE_JUDGES = [synth.static_findings, numbers.static_findings, rules.static_findings, acl.static_findings,
                   allowed.static_findings, outputs.static_findings, invariants.stack_findings,
                   invariants.parameter_findings]
LAST_JUDGES = [elsewhere.static_findings, options.static_findings, invariants.static_findings]
JUDGES = [outputs.judge, storage.judge, containers.judge, network.judge, wiring.judge, iam.judge,
          principals.judge, resource_policies.judge, numbers.judge, acl.judge, alarms.judge, demands.judge]


def check(folder=synth.FOLDER, every=scenarios.ALL):
    """The findings of a folder of templates, each once."""
    templates, found = synth.load(folder)
    return list(dict.fromkeys([*found, *findings(templates, every)]))


def findings(templates, every=scenarios.ALL):
    """The findings of templates that are read already, as they are found; several scenarios find the same."""
    for judge in TEMPLATE_JUDGES:
        yield from _guarded(judge, templates, "templates")
    for scenario in every:
        try:
            system = synth.system(templates, scenario)
        except Exception as error:
            yield _failure(error, scenario.name)
            continue
        yield from system.findings
        for judge in JUDGES:
            yield from _guarded(judge, system, scenario.name)
    for judge in LAST_JUDGES:
        yield from _guarded(judge, templates, "templates")


def _guarded(judge, subject, name):
    try:
        yield from judge(subject)
    except Exception as error:
        yield _failure(error, name, judge)


def _failure(error, name, judge=None):
    """A finding in place of a traceback: the templates are not formed as the model expects."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{judge.__module__.rpartition('.')[2]}, " if judge else ""
    return Finding("-", name, f"cannot be judged ({where}{frame.name}): {type(error).__name__}: {error}")
