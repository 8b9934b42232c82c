"""regions.json: every mistake is an error with its place, all of them at once."""

import json

import pytest
from adtrack_deploy import regions, schema


def load(tmp_path, content):
    path = tmp_path / "regions.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return regions.load(path)


def file(**members):
    region = {"name": "eu-west-1", **members.pop("region", {})}
    return {"deployment": "first", "home_region": "eu-west-1", "regions": [region], **members}


def test_takes_values_as_json_has_them(tmp_path):
    rollout = load(tmp_path, {"$schema": "./regions.schema.json", **file(parameters={
        "WebFirewall": True, "MinTasks": 4, "MaxTasks": 30.0, "LogLevel": "warn",
        "TrustedProxies": ["192.0.2.0/24", "198.51.100.0/24"]})})

    assert rollout.regions[0].parameters == {
        "WebFirewall": "true", "MinTasks": "4", "MaxTasks": "30", "LogLevel": "warn",
        "TrustedProxies": "192.0.2.0/24,198.51.100.0/24"}


@pytest.mark.parametrize(("content", "problem"), [
    ("[{}]", "the file: expected object, found array"),
    ("{", "not JSON"),
    ('{"deployment": "a", "deployment": "b"}', "deployment: appears twice in one object"),
    ("{}", "the file: regions is missing"),
    (file(regoins=[]), "regoins: no such member; did you mean regions?"),
    (file(region={"paramters": {}}), "regions[0].paramters: no such member; did you mean parameters?"),
    (file(region={"parameters": {"VpcCidrr": "10.0.0.0/16"}}),
     "regions[0].parameters.VpcCidrr: no template has this parameter; did you mean VpcCidr?"),
    (file(parameters={"mintasks": 3}), "parameters.mintasks: no template has this parameter; did you mean MinTasks?"),
    (file(parameters={"MinTasks": None}),
     "parameters.MinTasks: expected string or number or boolean or array, found null"),
    (file(parameters={"MinTasks": "many"}), 'parameters.MinTasks: "many": expected a number'),
    (file(parameters={"AccessLogDays": 31}), 'parameters.AccessLogDays: "31": expected at most 30'),
    (file(parameters={"WebFirewall": "yes"}), 'parameters.WebFirewall: "yes": expected one of true, false'),
    (file(region={"parameters": {"VpcCidr": "10.0.0.0/8"}}), 'regions[0].parameters.VpcCidr: "10.0.0.0/8": expected'),
    (file(parameters={"KeyArn": "arn"}), "parameters.KeyArn: in this layout, this is an output of the stack data"),
    (file(parameters={"TrackerImage": "x:1"}), "parameters.TrackerImage: set by deploy"),
    (file(parameters={"HostedZoneId": "Z1"}), 'parameters.HostedZoneId: set by the member "hosted_zone_id"'),
    (file(home_region="us-east-1"), "home_region: us-east-1 is not among the regions"),
    (file(regions=[]), "regions: "),
    (file(regions=[{"name": "eu-west-1"}, {"name": "eu-west-1"}]), "regions[1].name: eu-west-1 appears twice"),
    (file(regions=[{"name": "eu-west-1"}, {"name": "eu-wset-3"}]),
     "regions[1].name: eu-wset-3 is not a region that boto3 knows; did you mean eu-west-3?"),
    (file(regions=[{}]), "regions[0]: name is missing"),
    (file(tracking_domain="go.example.com"), "tracking_domain and hosted_zone_id: both, or neither"),
    (file(global_table=True), "global_table: it has replicas in two to four regions, not in 1"),
    (file(global_table="yes"), "global_table: expected boolean, found string"),
    (file(load_balancer="existing"), "so set network to"),
    (file(network="mine"), "network: 'mine' is not one of ['own', 'existing']"),
    (file(deployment="First!"), 'deployment: "First!": expected the form'),
    (file(tags={"aws:x": "1"}), "tags: "),
    (file(region={"accounts": {"12": {}}}), "regions[0].accounts: "),
    (file(region={"accounts": {"111122223333": {"parameters": {"CertifcateArn": "x"}}}}),
     "regions[0].accounts.111122223333.parameters.CertifcateArn: no template has this parameter; "
     "did you mean CertificateArn?"),
])
def test_says_what_is_wrong_and_where(tmp_path, content, problem):
    with pytest.raises(regions.RegionsError) as error:
        load(tmp_path, content)
    assert problem in str(error.value), str(error.value)


def test_reports_everything_at_once(tmp_path):
    content = file(home="x", parameters={"MinTasks": "x", "Nothing": 1}, tracking_domain="go.example.com")

    with pytest.raises(regions.RegionsError) as error:
        load(tmp_path, content)

    assert len(str(error.value).splitlines()) == 5, str(error.value)


def test_the_schema_names_every_parameter():
    assert schema.FILE.read_text() == schema.document(), "run: deploy/deploy schema > schema.json; move it to deploy/"


def test_the_example_is_valid_for_an_editor():
    import jsonschema
    for path in sorted(regions.FILE.parent.glob("regions*.json")):
        if path != schema.FILE:
            jsonschema.validate(json.loads(path.read_text()), json.loads(schema.FILE.read_text()))
