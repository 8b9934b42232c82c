"""The rules of ../templates as judges of templates: settings that no flow implies, such as encryption,
retention and deletion policies, each stated once.
"""

import re

from adtrack_deploy import stacks, template

from .finding import Finding

# These import cfn-lint, which takes seconds: they run last.
SLOW = ("everything_is_tagged",)


def static_findings(templates):
    """Findings of every rule; a rule that a mutant breaks finds it too."""
    import rules
    import rules_source  # noqa: F401 - adds its rules

    for name in sorted(rules.RULES, key=lambda name: (name in SLOW, name)):
        try:
            for text in rules.RULES[name](templates):
                yield _finding(templates, text)
        except Exception as error:
            yield Finding("-", name, f"cannot be judged: {type(error).__name__}: {error}")


def stack_findings(templates):
    """Templates that do not fit together as the stacks of a layout."""
    for layout in _layouts():
        for stack in stacks.of(layout):
            if not all(name in templates for name in stack.templates):
                continue
            try:
                template.merge([templates[name] for name in stack.templates], stack.description)
            except template.TemplateError as error:
                yield Finding(stack.templates[0], stack.name, f"cannot be one stack: {error}")
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
