"""Constraints of parameters that take or refuse too much, in each template."""

import copy

import pytest

from model import parameter_values, synth


@pytest.fixture(scope="module")
def templates():
    return synth.load()[0]


def found(templates, file, name, **change):
    copied = copy.deepcopy(templates)
    declared = copied[file]["Parameters"][name]
    for key, value in change.items():
        if value is None:
            del declared[key]
        else:
            declared[key] = value
    return [str(finding) for finding in parameter_values.static_findings(copied)]


def test_templates_take_and_refuse_what_the_table_says(templates):
    assert found(templates, "compute", "RateLimit") == []


@pytest.mark.parametrize(("file", "name", "change"), [
    ("compute", "RateLimit", {"AllowedPattern": "([1-9][0-9]{0,4})?"}),
    ("compute", "RateLimit", {"AllowedPattern": None}),
    ("compute", "TcfVendorId", {"AllowedPattern": ".{0,5}"}),
    ("compute", "DefaultFallbackUrl", {"AllowedPattern": "(.+)?"}),
    ("compute", "Deployment", {"AllowedPattern": "[a-z][a-z0-9-]{0,9}"}),
    ("compute", "RolePath", {"AllowedPattern": "/([A-Za-z0-9]+/)*"}),
    ("compute", "CookieSameSite", {"AllowedValues": ["lax", "none"]}),
    ("data-redis", "RedisNodeType", {"AllowedPattern": r"cache\.[a-z0-9-]+\.[a-z]+"}),
    ("global-table", "SecondRegion", {"AllowedPattern": "[a-z]{2}-[a-z]+-[0-9]"}),
    ("lambdas", "PermissionsBoundaryArn", {"AllowedPattern": "(arn:aws:iam::[0-9]{12}:policy/.+)?"}),
    ("load-balancer", "TrackingDomain", {"AllowedPattern": r"([a-z.-]+\.[a-z]+)?"}),
    ("network", "VpcCidr", {"AllowedPattern": "[0-9.]+/(1[6-9]|2[0-8])"}),
    ("network", "Zone1", {"Type": "String"}),
    ("network-groups", "VpcId", {"Type": "String"}),
    ("artifacts", "OrganizationId", {"AllowedPattern": "o-[a-z0-9]+"}),
])
def test_another_constraint_is_found_where_it_is(templates, file, name, change):
    findings = found(templates, file, name, **change)
    assert findings
    assert all(finding.startswith(f"{file}:{name}: ") for finding in findings)
