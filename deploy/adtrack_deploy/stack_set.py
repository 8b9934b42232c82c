"""The template of a StackSet, which deploys a region as one stack to accounts of an organization."""

from . import stacks, template
from .regions import RegionsError


def compose(chosen, region_rollout):
    """Builds and uploads everything that the template names. Returns the template.

    `region_rollout` returns the RegionRollout of a region. Each region has its own parameters, and so may each
    account, because a certificate belongs to one account.
    """
    layouts = {region.layout for region in chosen}
    if len(layouts) > 1:
        raise RegionsError("a StackSet has one template: its regions need the same network, security_groups "
                           "and load_balancer")
    body = template.load("stack-set", template.FOLDER.parent / "organizations")
    properties = body["Resources"]["Regions"]["Properties"]
    [group] = properties.pop("StackInstancesGroup")
    groups = []
    for region in chosen:
        one = region_rollout(region)
        overrides = one.for_stack_set()
        if region.name == chosen[0].name:
            properties["TemplateURL"] = one.upload_region_template()
        groups += _groups(region, group, overrides)
    properties["OperationPreferences"]["RegionOrder"] = [region.name for region in chosen]
    properties["StackInstancesGroup"] = groups
    # CloudFormation overrides only parameters that the StackSet sets.
    common = {}
    for one in groups:
        for override in one["ParameterOverrides"]:
            common.setdefault(override["ParameterKey"], override)
    properties["Parameters"] += [common[name] for name in sorted(common)]
    if all(region.accounts for region in chosen):
        # Each group names its account.
        del body["Parameters"]["AccountIds"]
    return body


def _groups(region, group, overrides):
    if not region.accounts:
        return [{**group, "Regions": [region.name], "ParameterOverrides": _to_list(overrides)}]
    declared = stacks.region_body(region.layout)["Parameters"]
    return [
        {
            **group,
            "DeploymentTargets": {**group["DeploymentTargets"], "Accounts": [account]},
            "Regions": [region.name],
            "ParameterOverrides": _to_list(overrides | {
                name: value for name, value in own.items() if name in declared}),
        }
        for account, own in sorted(region.accounts.items())
    ]


def _to_list(overrides):
    return [{"ParameterKey": key, "ParameterValue": value} for key, value in sorted(overrides.items())]
