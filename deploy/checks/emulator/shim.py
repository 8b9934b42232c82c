"""What moto cannot, taken out of or put into the templates. Everything else it creates as written."""

import copy
import functools
import re

from adtrack_deploy import cloudformation, stacks
from moto.cloudformation.models import ChangeSet

# Types that moto's CloudFormation does not know, or whose parts it does not (checked with 5.2.5).
UNKNOWN = {
    "AWS::ApplicationAutoScaling::ScalableTarget",
    "AWS::ApplicationAutoScaling::ScalingPolicy",
    "AWS::DynamoDB::GlobalTable",
    "AWS::ElastiCache::ParameterGroup",
    "AWS::ElastiCache::ReplicationGroup",
    "AWS::ElastiCache::SubnetGroup",
    "AWS::ElastiCache::User",
    "AWS::ElastiCache::UserGroup",
    "AWS::Logs::MetricFilter",
    "AWS::S3::BucketPolicy",
    "AWS::SecretsManager::Secret",
    # An update of a stack puts its parameters again, which moto refuses.
    "AWS::SSM::Parameter",
    "AWS::WAFv2::WebACL",
    "AWS::WAFv2::WebACLAssociation",
}
UNKNOWN_ATTRIBUTES = {"CanonicalHostedZoneID", "LoadBalancerFullName", "TargetGroupFullName"}

# Read once: each roll-out deploys the same.
_body = functools.cache(stacks.body)
_apply = ChangeSet.apply


def _apply_with_outputs(change_set):
    """moto gives a stack that was made by a change set no outputs, and drops its new parameters."""
    _apply(change_set)
    change_set.stack.template_dict = change_set.template_dict
    change_set.stack.parameters = change_set.parameters
    change_set.stack.output_map = change_set.stack._create_output_map()


# moto has no call for this: what the roll-out would tell CloudFormation.
protected = {}


def install():
    """Has the roll-out deploy shimmed templates, to a moto that gives outputs."""
    cloudformation.Stacks.protect = lambda _, name, value: protected.update({name: value})
    stacks.body = shimmed
    ChangeSet.apply = _apply_with_outputs


def shimmed(stack):
    """The stack's template, for moto."""
    body = _functions(copy.deepcopy(_body(stack)))
    unknown = {name for name, resource in body["Resources"].items() if resource["Type"] in UNKNOWN}
    body = _without(body, unknown)
    body["Resources"] = {
        name: resource for name, resource in body["Resources"].items() if name not in unknown
    }
    for name, resource in body["Resources"].items():
        if resource.get("DeletionPolicy") == "RetainExceptOnCreate":
            # moto knows no rollback, and this word neither.
            resource["DeletionPolicy"] = "Retain"
        if resource["Type"] == "AWS::EC2::VPC":
            # moto does not delete its route tables, and then not the VPC.
            resource["DeletionPolicy"] = "Retain"
        _resource(name, resource["Type"], resource.setdefault("Properties", {}))
    return body


def _functions(node):
    """moto knows neither Fn::Cidr nor the zones of the region that it is asked in, and makes an empty
    item of a list's AWS::NoValue: optional items, none of which the test asks for, are left out.
    """
    if isinstance(node, list):
        return [_functions(item) for item in node if not _optional(item)]
    if not isinstance(node, dict):
        return node
    if set(node) == {"Fn::Select"}:
        index, source = node["Fn::Select"]
        if source == {"Fn::GetAZs": ""}:
            return {"Fn::Sub": "${AWS::Region}" + "abc"[index]}
        if isinstance(source, dict) and "Fn::Cidr" in source:
            octets = [{"Fn::Select": [number, {"Fn::Split": [".", source["Fn::Cidr"][0]]}]}
                      for number in (0, 1)]
            return {"Fn::Join": [".", [*octets, f"{4 * index}.0/22"]]}
    return {key: _functions(value) for key, value in node.items()}


def _without(node, unknown):
    """References to what is not there become names such as CloudFormation makes."""
    if isinstance(node, list):
        return [_without(item, unknown) for item in node]
    if isinstance(node, str):
        return re.sub(
            r"\$\{(\w+)(?:\.([\w.]+))?\}",
            lambda found: _stand_in(found[1]) if found[1] in unknown else found[0], node)
    if not isinstance(node, dict):
        return node
    name, attribute = node.get("Fn::GetAtt", (node.get("Ref"), None))
    if name in unknown or attribute in UNKNOWN_ATTRIBUTES:
        return {"Fn::Sub": _stand_in(name)}
    return {key: _without(value, unknown) for key, value in node.items()}


def _stand_in(name):
    return "${AWS::StackName}-" + name.lower()


def _optional(item):
    choice = item.get("Fn::If") if isinstance(item, dict) else None
    return bool(choice) and choice[2] == {"Ref": "AWS::NoValue"}


def _resource(name, kind, properties):
    if kind == "AWS::ECR::Repository":
        # moto makes names up with capitals, and then refuses them. CloudFormation's are like this.
        properties["RepositoryName"] = {"Fn::Sub": "${AWS::StackName}-" + name.lower()}
    if kind == "AWS::KMS::Key":
        # moto reads a key's tags under other names.
        del properties["Tags"]
