"""All judges over all scenarios: `check(folder)` is what `check-templates` prints.

A judge is a function from a system to findings. One that fails on a template that nobody expected is a
finding of its own, so that no mutant ends in a traceback.
"""

import traceback

from adtrack_deploy import stacks
from adtrack_deploy.template import TemplateError

from . import iam, network, resource_policies, scenarios, synth, wiring
from .finding import Finding, unique

# Judges of one scenario's system.
JUDGES = [network.judge, iam.judge, resource_policies.judge, wiring.judge]
# Judges of the templates themselves.
TEMPLATE_JUDGES = [synth.static_findings]


def check(folder=synth.FOLDER, every=scenarios.ALL):
    """The findings of a folder of templates."""
    templates, found = synth.load(folder)
    return unique(found + check_templates(templates, every))


def check_templates(templates, every=scenarios.ALL):
    """The findings of templates that are read already."""
    found = []
    for judge in TEMPLATE_JUDGES:
        found += _guarded(judge, templates, "templates")
    for scenario in every:
        try:
            system = synth.system(templates, scenario)
        except Exception as error:
            found.append(_failure(error, scenario.name))
            continue
        found += system.findings
        for judge in JUDGES:
            found += _guarded(judge, system, scenario.name)
    return unique(found)


def _guarded(judge, subject, name):
    try:
        return list(judge(subject))
    except Exception as error:
        return [_failure(error, name, judge)]


def _failure(error, name, judge=None):
    """A finding in place of a traceback: the templates are not formed as the model expects."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{judge.__module__.rpartition('.')[2]}, " if judge else ""
    return Finding("-", name, f"cannot be judged ({where}{frame.name}): {type(error).__name__}: {error}")
