"""The rules of ../templates as judges of templates: settings that no flow implies, such as encryption,
retention and deletion policies, each stated once.
"""

import re

from adtrack_deploy import stacks, template

from .finding import Finding, failure
from .memory import remembered
from .synth import Templates

# These import cfn-lint, which takes seconds.
SLOW = ("everything_is_tagged",)
# Members of a parameter that decide what it may be.
CONSTRAINTS = ("Type", "Default", "AllowedValues", "AllowedPattern", "MinValue", "MaxValue", "MinLength", "MaxLength")


def static_findings(templates):
    """Findings of every rule but the slow ones."""
    return _ruled(templates, lambda name: name not in SLOW)


def slow_findings(templates):
    """Findings of the rules that take seconds."""
    return _ruled(templates, lambda name: name in SLOW)


def parameter_findings(templates):
    """What an operator sets is declared alike wherever it is read: a value is valid everywhere or nowhere."""
    outputs = {name for body in templates.values() for name in body.get("Outputs") or {}}
    declared = {}
    for file, body in templates.items():
        for name, parameter in (body.get("Parameters") or {}).items():
            if name not in outputs and isinstance(parameter, dict):
                declared.setdefault(name, []).append((file, parameter))
    for name, places in declared.items():
        for key in CONSTRAINTS:
            yield from _alike(name, key, [(file, parameter.get(key)) for file, parameter in places])


def _alike(name, key, places):
    """A finding for each template whose value is not that of most; for each, if there is no such value."""
    values = [value for _, value in places]
    if all(value == values[0] for value in values):
        return
    usual = next((value for value in values if values.count(value) * 2 > len(values)), None)
    for file, value in places:
        if value != usual or values.count(value) * 2 <= len(values):
            others = ", ".join(f"{other} in {there}" for there, other in places if other != value)
            yield Finding(file, name, f"has the {key} {value}, unlike the other templates: {others}")


def _ruled(templates, wanted):
    import rules
    import rules_source  # noqa: F401 - adds its rules

    for name in filter(wanted, sorted(rules.RULES)):
        try:
            for text in rules.RULES[name](templates):
                yield _finding(templates, text)
        except Exception as error:
            yield failure(error, name, templates)


def stack_findings(templates):
    """Templates that do not fit together as the stacks of a layout."""
    templates = Templates.of(templates)
    for layout in _layouts():
        for stack in stacks.of(layout):
            if all(name in templates for name in stack.templates):
                key = stack.name, tuple(templates.digests[name] for name in stack.templates)
                yield from remembered(key, lambda stack=stack: _merged(templates, stack))


def _merged(templates, stack):
    try:
        template.merge([templates[name] for name in stack.templates], stack.description)
    except template.TemplateError as error:
        yield Finding("-", stack.name, f"the templates {', '.join(stack.templates)} cannot be one stack: {error}")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        yield Finding(stack.templates[0], stack.name, f"cannot be one stack: {error!r}")


def _layouts():
    existing = stacks.EXISTING
    return (stacks.Layout(global_table=True, routed=True), stacks.Layout(existing, load_balancer=existing),
            stacks.Layout(existing, existing, existing))


def _finding(templates, text):
    """A rule's text, `template: Resource what`, as a finding."""
    match = re.match(r"([\w-]+): (?:(?:Parameters|Outputs|parameter|resource) )?(\w+)\b ?(.*)", text, re.S)
    if match and match[1] in templates:
        names = {name for section in ("Parameters", "Resources", "Outputs")
                 for name in templates[match[1]].get(section) or {}}
        if match[2] in names:
            return Finding(match[1], match[2], match[3])
        return Finding(match[1], "-", text.split(": ", 1)[1])
    return Finding("-", "-", text)
