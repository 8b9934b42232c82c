"""All judges over all scenarios: `findings(templates)` is what `check-templates` prints.

A judge is a function from a system to findings. One that fails on a template that nobody expected is a
finding of its own, so that no mutant ends in a traceback.
"""

from . import (
    acl,
    alarms,
    allowed,
    conditions,
    containers,
    dashboard,
    demands,
    elsewhere,
    iam,
    invariants,
    network,
    numbers,
    options,
    outputs,
    parameter_values,
    principals,
    replacements,
    resource_policies,
    rules,
    scenarios,
    storage,
    synth,
    wiring,
)
from .finding import Failure, Finding, failure

# Judges of the templates themselves before, and after, those of one scenario's system. First those that name the
# place of a fault; then the cheap.
TEMPLATE_JUDGES = [
    parameter_values.static_findings, replacements.static_findings, conditions.static_findings,
    dashboard.static_findings, synth.static_findings, numbers.static_findings, rules.static_findings,
    acl.static_findings, allowed.static_findings, outputs.static_findings, invariants.parameter_findings,
    invariants.stack_findings]
LAST_JUDGES = [elsewhere.static_findings, options.static_findings, invariants.static_findings]
JUDGES = [
    outputs.judge, storage.judge, containers.judge, network.judge, wiring.judge, iam.judge, principals.judge,
    resource_policies.judge, numbers.judge, acl.judge, demands.judge, dashboard.judge, alarms.judge]


def check(folder=synth.FOLDER, every=scenarios.ALL):
    """The findings of a folder of templates, each once."""
    templates, found = synth.load(folder)
    unread = {finding.file for finding in found}
    found += [finding for finding in _missing(templates, every) if finding.file not in unread]
    # All else would follow from that.
    return found or list(dict.fromkeys(findings(templates, every)))


def findings(templates, every=scenarios.ALL):
    """The findings of templates that are read already, as they are found; several scenarios find the same.

    A judge that fails is a finding if there is no other: it would say again what another says better.
    """
    missing = list(_missing(templates, every))
    if missing:
        yield from missing
        return
    failures, any_ = [], False
    for finding in _judged(templates, every):
        if isinstance(finding, Failure):
            failures.append(finding)
        else:
            any_ = True
            yield finding
    if not any_:
        yield from failures


def _missing(templates, every):
    """Templates that a scenario has and the folder has not."""
    wanted = dict.fromkeys(name for scenario in every for name in synth.roll_out_order(scenario.layout))
    return (Finding(name, "-", "there is no such template") for name in wanted if name not in templates)


def _judged(templates, every):
    templates = synth.Templates.of(templates)
    for judge in TEMPLATE_JUDGES:
        yield from _guarded(judge, templates, "templates", templates)
    for scenario in every:
        try:
            system = templates.system(scenario)
        except Exception as error:
            yield failure(error, scenario.name, templates)
            continue
        yield from system.findings
        for judge in JUDGES:
            yield from _guarded(judge, system, scenario.name, templates)
    for judge in LAST_JUDGES:
        yield from _guarded(judge, templates, "templates", templates)


def _guarded(judge, subject, name, templates):
    try:
        yield from judge(subject)
    except Exception as error:
        yield failure(error, name, templates)
