"""Rules of templates: what they have to refuse before anything is made, and what they have to take."""

import functools
import itertools
import json

from . import scenarios, synth
from .finding import Finding
from .numbers import FARGATE

REFUSES = "refuses the scenario"
USUAL = scenarios.PRODUCTION
CERTIFICATE = USUAL.parameters["CertificateArn"]
# Template → parameters, and whether its rules refuse them.
CASES = {
    "data-redis": [
        ({"RedisNodes": "1", "RedisFailover": "true"}, True),
        ({"RedisNodes": "1", "RedisFailover": "false"}, False),
        ({"RedisNodes": "2", "RedisFailover": "true"}, False),
        ({"RedisNodes": "3", "RedisFailover": "false"}, False),
    ],
    "data": [
        ({"StreamMode": "ON_DEMAND", "EventShards": "8"}, True),
        ({"StreamMode": "ON_DEMAND", "CoreDataShards": "2"}, True),
        ({"StreamMode": "ON_DEMAND"}, False),
        ({"StreamMode": "PROVISIONED", "EventShards": "8", "CoreDataShards": "2"}, False),
        ({"StreamMode": "PROVISIONED"}, False),
    ],
    "network": [
        ({"VpcEndpoints": "none"}, True), ({"VpcEndpoints": "one-zone"}, False),
        ({"VpcEndpoints": "all-zones"}, False),
        ({"Zone1": "eu-west-1a", "Zone2": "eu-west-1a", "Zone3": "eu-west-1c"}, True),
        ({"Zone1": "eu-west-1a", "Zone2": "eu-west-1b", "Zone3": "eu-west-1a"}, True),
        ({"Zone1": "eu-west-1a", "Zone2": "eu-west-1b", "Zone3": "eu-west-1b"}, True),
        ({"Zone1": "eu-west-1a", "Zone2": "eu-west-1b", "Zone3": ""}, False),
    ],
    "network-groups": [
        ({"VpcEndpoints": endpoints, "AwsServicesCidr": cidr}, (endpoints == "none") != bool(cidr))
        for endpoints in ("all-zones", "one-zone", "none") for cidr in ("", "0.0.0.0/0")
    ],
    "load-balancer": [
        ({"CertificateArn": own, "CreateCertificate": made, "InsecurePlainHttp": plain},
         bool(own) + (made == "true") + (plain == "true") != 1)
        for own in ("", CERTIFICATE) for made in ("true", "false") for plain in ("true", "false")
    ] + [
        ({"CertificateArn": "", "CreateCertificate": "true", "TrackingDomain": ""}, True),
        ({"CertificateArn": "", "CreateCertificate": "true", "HostedZoneId": ""}, True),
        ({"TrackingDomain": "", "HostedZoneId": ""}, False),
        ({"CertificateArn": "", "InsecurePlainHttp": "true", "CustomerCertificateArns": CERTIFICATE}, True),
        ({"CustomerCertificateArns": CERTIFICATE}, False),
    ],
    "global-routing": [({"TrackingDomain": ""}, True), ({"TrackingDomain": "t.example.com"}, False)],
    "compute": [
        ({"RateLimit": "", "RateLimitExempt": "192.0.2.0/24"}, True),
        ({"RateLimit": "20", "RateLimitExempt": "192.0.2.0/24"}, False),
        ({"RateLimit": "20", "RateLimitExempt": ""}, False),
    ],
}


def static_findings(templates):
    """Parameters that a template takes and must not, or the other way."""
    for name, body in templates.items():
        if name in CASES:
            text = json.dumps([body.get(section) for section in ("Parameters", "Rules", "Conditions")], sort_keys=True)
            yield from _judged(name, text)
        elif body.get("Rules"):
            yield Finding(name, "Rules", "is tried by no case of rules.py")


@functools.lru_cache(1024)
def _judged(name, text):
    parameters, rules, conditions = json.loads(text)
    # The rules alone: no resources, no outputs.
    templates = {name: {"Parameters": parameters, "Rules": rules or {}, "Conditions": conditions, "Resources": {}}}
    found, used = [], set()
    for given, has_to in [*CASES[name], *_sizes(name, parameters or {})]:
        system = synth.system(templates, synth.Scenario(
            "these parameters", USUAL.parameters | given, USUAL.layout))
        refused = [finding for finding in system.findings if finding.text.startswith(REFUSES)]
        used |= {finding.resource for finding in refused}
        shown = ", ".join(f"{key} {value or 'empty'}" for key, value in given.items())
        if has_to and not refused:
            found.append(Finding(name, "Rules", f"take {shown}, which they have to refuse"))
        elif refused and not has_to:
            # Which rule is wrong is known here alone, so it comes first.
            found.insert(0, Finding(name, refused[0].resource, f"refuses {shown}, which it has to take"))
    found += [Finding(name, rule, "refuses nothing that rules.py tries") for rule in sorted(set(rules or {}) - used)]
    return tuple(found)


def _sizes(name, parameters):
    """Every size of a task, and whether Fargate lacks it."""
    if name != "compute":
        return
    sizes = [(parameters.get(key) or {}).get("AllowedValues", []) for key in ("TaskCpu", "TaskMemory")]
    for cpu, memory in itertools.product(*sizes):
        yield {"TaskCpu": cpu, "TaskMemory": memory}, int(memory) not in FARGATE.get(int(cpu), ())
