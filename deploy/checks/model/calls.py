"""The source against the grants: every AWS call that a binary makes has a permission that is reviewed."""

from . import grants, scenarios, synth
from .parts import of as parts_of


def findings(templates, called):
    """What differs between the calls of the source, as (file, service, call), and `grants.CALLS`."""
    for file, service, call in sorted(called - set(grants.CALLS)):
        yield f"{file} calls {service} {call}, which grants.CALLS does not have"
    for file, service, call in sorted(set(grants.CALLS) - called):
        yield f"{file} does not call {service} {call} any more"
    parts = parts_of(synth.system(templates, scenarios.PRODUCTION))
    if parts.missing:
        return
    granted = {(grant.who, grant.action) for grant in grants.of(parts)}
    for (file, _, _), (callers, action) in grants.CALLS.items():
        for who in sorted(callers & set(grants.ROLES)):
            if (who, action) not in granted:
                yield f"{who} has no grant of {action}, which {file} needs"
