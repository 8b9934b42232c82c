"""Which conditions hold in which deployment. One that is inverted changes much; here it is named itself, first.

What each does when its option is set is in options.yaml.
"""

from . import scenarios, synth
from .finding import Finding

# A deployment, and the conditions that hold in it; no other does. Together they have every template with conditions.
HOLD = (
    (scenarios.PRODUCTION, {
        "network": {"HasThirdZone"},
        "network-groups": {"HasEndpoints"},
        "load-balancer-group": {"HasTls"},
        "network-endpoints": {"HasEndpoints", "InAllZones"},
        "data": {"IsProtected", "OwnTable"},
        "data-redis": {"FailsOver"},
        "lambdas": {"KeepsConsumerConcurrency", "KeepsUpdaterConcurrency"},
        "load-balancer": {"HasTls"},
        "observability-core-data": {"HasReplica", "HasTwoReplicas"},
        "global-routing": {"HasTls", "HasZone"},
    }),
    (scenarios.GLOBAL_TABLE, {
        "global-table": {"HasFourth", "HasIndex", "HasThird", "IsProtected"},
        "network": {"HasThirdZone"},
        "network-groups": {"HasEndpoints"},
        "load-balancer-group": {"HasTls"},
        "network-endpoints": {"HasEndpoints", "InAllZones"},
        "data": {"HasIndex", "IsProtected"},
        "data-redis": {"FailsOver"},
        "lambdas": {"KeepsConsumerConcurrency", "KeepsUpdaterConcurrency", "WritesIndex"},
        "load-balancer": {"HasTls"},
        "observability-core-data": {"HasReplica", "HasTwoReplicas"},
        "global-routing": {"HasTls", "HasZone"},
    }),
)


def static_findings(templates):
    """Conditions that hold where they should not, or the other way."""
    templates = synth.Templates.of(templates)
    for scenario, hold in HOLD:
        for (file, name), holds in templates.system(scenario).conditions.items():
            # A condition that cannot be evaluated is a finding already.
            if holds is not None and holds != (name in hold.get(file, ())):
                yield Finding(file, name, f"{'holds' if holds else 'does not hold'} in the deployment "
                                          f"{scenario.name}, and should{' not' if holds else ''} (conditions.py)")
