"""Rules over all templates. Each is a function that yields what is wrong; nothing: it holds."""

import functools
import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "deploy"))

import settings
from adtrack_deploy.template import walk
from settings import whatever_the_condition

RULES = {}

# Where two deployments would meet: names that are one's own in a region or an account.
FIXED_NAMES = {
    "AWS::ApplicationAutoScaling::ScalingPolicy": [],  # PolicyName is within the scaled service
    "AWS::CloudWatch::Alarm": ["AlarmName"],
    "AWS::CloudWatch::CompositeAlarm": ["AlarmName"],
    "AWS::CloudWatch::Dashboard": ["DashboardName"],
    "AWS::DynamoDB::GlobalTable": ["TableName"],
    "AWS::DynamoDB::Table": ["TableName"],
    "AWS::EC2::SecurityGroup": ["GroupName"],
    "AWS::ECR::Repository": ["RepositoryName"],
    "AWS::ECS::Cluster": ["ClusterName"],
    "AWS::ECS::Service": ["ServiceName"],
    "AWS::ECS::TaskDefinition": ["Family"],
    "AWS::ElastiCache::ReplicationGroup": ["ReplicationGroupId"],
    "AWS::ElastiCache::SubnetGroup": ["CacheSubnetGroupName"],
    "AWS::ElastiCache::User": ["UserId"],
    "AWS::ElastiCache::UserGroup": ["UserGroupId"],
    "AWS::ElasticLoadBalancingV2::LoadBalancer": ["Name"],
    "AWS::ElasticLoadBalancingV2::TargetGroup": ["Name"],
    "AWS::IAM::Role": ["RoleName"],
    "AWS::Kinesis::Stream": ["Name"],
    "AWS::Lambda::Function": ["FunctionName"],
    "AWS::Logs::LogGroup": ["LogGroupName"],
    "AWS::Logs::MetricFilter": ["FilterName"],
    "AWS::S3::Bucket": ["BucketName"],
    "AWS::SNS::Topic": ["TopicName"],
    "AWS::SSM::Parameter": ["Name"],
    "AWS::SecretsManager::Secret": ["Name"],
    "AWS::WAFv2::WebACL": ["Name"],
}


def rule(function):
    """Adds a rule; its docstring is what it demands."""
    RULES[function.__name__] = function
    return function


def resources(templates, *types):
    """Every resource of these types, as (template, name, resource)."""
    for template, body in templates.items():
        for name, resource in body["Resources"].items():
            if not types or resource["Type"] in types:
                yield template, name, resource


def at(node, path):
    """The value at `path`; None where there is none. List items that have a Name go by it."""
    for step in path.split("."):
        if isinstance(node, list):
            if step.isdigit():
                node = node[int(step)] if int(step) < len(node) else None
            else:
                named = [item for item in node if isinstance(item, dict) and item.get("Name") == step]
                node = named[0].get("Value", named[0]) if named else None
        else:
            node = node.get(step) if isinstance(node, dict) else None
        if node is None:
            return None
    return node


def default_of(templates, template, value):
    """What a parameter is by default; anything else is itself."""
    if isinstance(value, dict) and set(value) == {"Ref"}:
        return templates[template]["Parameters"].get(value["Ref"], {}).get("Default", value)
    return value


@rule
def settings_stand(templates):
    """Every setting of settings.py stands as it should."""
    for (template, name), wanted in settings.SETTINGS.items():
        resource = templates[template]["Resources"].get(name)
        if resource is None:
            yield f"{template}: no resource {name}"
            continue
        for path, expected, reason in wanted:
            value = at(resource, path)
            if isinstance(expected, settings.Expected):
                default = functools.partial(default_of, templates, template)
                holds = value is not None and expected.holds(value, default)
            else:
                holds = value == expected and type(value) is type(expected)
            if not holds:
                yield f"{template}: {name} {path} is {shown(value)}, expected {shown(expected)}: {reason}"
    for (template, name), (expected, reason) in settings.DEFAULTS.items():
        value = templates[template]["Parameters"].get(name, {}).get("Default")
        if value != expected:
            yield f"{template}: {name} is {shown(value)} by default, expected {shown(expected)}: {reason}"


def shown(value):
    """A value as a person reads it."""
    if isinstance(value, settings.Expected):
        return value.shown
    return "not set" if value is None else json.dumps(value)[:120]


@rule
def nothing_is_named(templates):
    """No name collides in a second region or a second deployment."""
    for template, name, resource in resources(templates):
        properties = resource.get("Properties", {})
        unknown = [key for key in properties if re.fullmatch(r"[A-Za-z]*(Name|Identifier)", key)]
        for key in FIXED_NAMES.get(resource["Type"], []):
            if key in properties and "Deployment" not in json.dumps(properties[key]):
                yield f"{template}: {name} {key} is fixed"
        if resource["Type"] not in FIXED_NAMES and any(
            isinstance(properties[key], str) for key in unknown
        ):
            yield f"{template}: {name} has a fixed {unknown}"
    for template, body in templates.items():
        for name, output in body.get("Outputs", {}).items():
            if "Export" in output:
                yield f"{template}: output {name} is exported, under one name for the region"
        for path, value in walk(body["Resources"]):
            namespace = path and path[-1] in ("MetricNamespace", "Namespace") and str(value)
            if namespace and "adtrack" in namespace and "Deployment" not in namespace:
                yield f"{template}: {'.'.join(map(str, path))} is the same for all deployments"


@rule
def everything_is_tagged(templates):
    """Whatever takes tags has those of application and deployment."""
    from cfnlint.schema import PROVIDER_SCHEMA_MANAGER as schemas

    for template, name, resource in resources(templates):
        schema = schemas.get_resource_schema("us-east-1", resource["Type"]).schema
        tag_property = (schema.get("tagging") or {}).get("tagProperty") or ""
        key = tag_property.rsplit("/", 1)[-1]
        if not key:
            continue
        tags = resource["Properties"].get(key) or {}
        if isinstance(tags, list):
            tags = {tag["Key"]: tag["Value"] for tag in tags}
        if tags.get("application") != "adtrack" or tags.get("deployment") != {"Ref": "Deployment"}:
            yield f"{template}: {name} is not tagged"


@rule
def parameters_are_described(templates):
    """Parameters and outputs say what they are; every template knows its deployment."""
    for template, body in templates.items():
        for kind in ("Parameters", "Outputs"):
            for name, value in body.get(kind, {}).items():
                if len(value.get("Description", "")) < 8:
                    yield f"{template}: {kind} {name} has no description"
        if body["Parameters"].get("Deployment", {}).get("Default") != "adtrack":
            yield f"{template}: no parameter Deployment"
        if not 20 < len(body.get("Description", "")) <= 1024:
            yield f"{template}: no description"


@rule
def secrets_are_secret(templates):
    """Passwords are generated, encrypted with our key, and stand nowhere in a template."""
    for template, name, resource in resources(templates, "AWS::SecretsManager::Secret"):
        if resource["Properties"].get("KmsKeyId") != {"Ref": "KeyArn"}:
            yield f"{template}: {name} is not encrypted with our key"
        generated = resource["Properties"].get("GenerateSecretString", {})
        text = json.dumps(resource["Properties"].get("SecretString", ""))
        if not generated.get("PasswordLength", 0) >= 32 and "{{resolve:secretsmanager:" not in text:
            yield f"{template}: {name} is not generated"
    for template, body in templates.items():
        for path, value in walk(body):
            if isinstance(value, str) and re.search(r"rediss?://[^:@/]*:(?!\{\{resolve:)[^@]+@", value):
                yield f"{template}: {'.'.join(map(str, path))} holds a password"
            if isinstance(value, str) and value.startswith("redis://"):
                yield f"{template}: {'.'.join(map(str, path))} is Redis without TLS"
    for template, name, resource in resources(templates, "AWS::ElastiCache::User"):
        for password in resource["Properties"].get("AuthenticationMode", {}).get("Passwords", []):
            if "{{resolve:secretsmanager:" not in json.dumps(password):
                if password != {"Ref": "AWS::NoValue"}:
                    yield f"{template}: {name} has a password that is no secret"
    for template, name, resource in resources(templates, "AWS::S3::BucketPolicy"):
        if '"aws:SecureTransport": "false"' not in json.dumps(resource):
            yield f"{template}: {name} allows plain HTTP"


@rule
def shutdown_fits(templates):
    """The stop time-out is longer than deregistration and drain together."""
    compute = templates["compute"]["Resources"]["Task"]
    base = "Properties.ContainerDefinitions.tracker."
    stop = at(compute, base + "StopTimeout") or 0
    grace = int(at(compute, base + "Environment.SHUTDOWN_GRACE_SECONDS") or 25)
    delay = int(at(compute, base + "Environment.SHUTDOWN_DELAY_SECONDS") or 5)
    parameter = templates["target-group"]["Parameters"]["DeregistrationSeconds"]
    attributes = json.dumps(
        at(templates["target-group"]["Resources"], "TargetGroup.Properties.TargetGroupAttributes"))
    if '"deregistration_delay.timeout_seconds", "Value": {"Ref": "DeregistrationSeconds"}' not in attributes:
        yield "target-group: the deregistration delay is not set"
    if stop <= parameter["MaxValue"] + grace:
        yield f"compute: StopTimeout {stop} is not above {parameter['MaxValue']} + {grace}"
    health = templates["target-group"]["Resources"]["TargetGroup"]["Properties"]
    noticed = health["HealthCheckIntervalSeconds"] * health["UnhealthyThresholdCount"]
    if delay <= noticed:
        yield f"compute: a tracker stops listening after {delay} s, and is noticed after {noticed} s"


@rule
def journal_fits(templates):
    """The disk holds the largest journal that may be asked for by default, and the image."""
    parameters = templates["compute"]["Parameters"]
    if parameters["JournalMaxBytes"]["Default"] > (parameters["DiskGiB"]["Default"] - 10) << 30:
        yield "compute: the disk is too small for the journal"


@rule
def alarms_are_there(templates):
    """Everything that must be watched has an alarm, and the objectives are there."""
    for metric, where in settings.ALARMS.items():
        namespace, name = metric.split(" ")
        for template in where:
            if not any(
                json.dumps(found["Namespace"]).find(namespace) >= 0 and found["MetricName"] == name
                for _, _, alarm in resources({template: templates[template]}, "AWS::CloudWatch::Alarm")
                for found in metrics_of(alarm)
            ):
                yield f"{template}: nothing alarms on {metric}"
    for name in settings.OBJECTIVES:
        if name not in templates["observability-objectives"]["Resources"]:
            yield f"observability-objectives: no {name}"


def metrics_of(alarm):
    """The metrics that an alarm reads."""
    properties = alarm["Properties"]
    if "MetricName" in properties:
        return [properties]
    queries = map(whatever_the_condition, properties["Metrics"])
    return [query["MetricStat"]["Metric"] for query in queries if "MetricStat" in query]


@rule
def alarms_say_what_to_do(templates):
    """Each alarm notifies, decides about missing data, and leads to its place in the runbook."""
    runbook = (ROOT / "docs/RUNBOOK.md").read_text()
    anchors = {
        re.sub(r"[^a-z0-9 -]", "", line.lstrip("# ").lower()).replace(" ", "-")
        for line in runbook.splitlines() if line.startswith("#")
    }
    parts = re.findall(r"\$\{(\w+)\.Arn\}", json.dumps(templates["observability-objectives"]))
    kinds = ("AWS::CloudWatch::Alarm", "AWS::CloudWatch::CompositeAlarm")
    for template, name, alarm in resources(templates, *kinds):
        properties = alarm["Properties"]
        text = properties.get("AlarmDescription", "")
        found = re.search(r"docs/RUNBOOK\.md#([a-z0-9-]+)$", text)
        if len(text) < 80 or not found:
            yield f"{template}: {name} does not say what to do"
        elif found[1] not in anchors:
            yield f"{template}: {name} leads to #{found[1]}, which the runbook has not"
        if not properties.get("AlarmActions") and name not in parts:
            yield f"{template}: {name} notifies nobody"
        if "TreatMissingData" not in properties and alarm["Type"].endswith("::Alarm"):
            yield f"{template}: {name} does not say what missing data means"
        if "Metrics" in properties and not any(
            query.get("ReturnData", True) for query in map(whatever_the_condition, properties["Metrics"])
        ):
            yield f"{template}: {name} has no value"
