"""The template of a StackSet: a region in one stack, in accounts of an organization."""

from . import stacks, template
from .regions import RegionsError


def compose(chosen, region_rollout):
    """The template, after everything it names is built and uploaded.

    `region_rollout` gives the RegionRollout of a region. Each region has its parameters, and so has
    each account of it: a certificate belongs to one account.
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
    # A parameter has to have a value before a group's own goes over it.
    common = {}
    for one in groups:
        for override in one["ParameterOverrides"]:
            common.setdefault(override["ParameterKey"], override)
    properties["Parameters"] += [common[name] for name in sorted(common)]
    if all(region.accounts for region in chosen):
        # Named in each group.
        del body["Parameters"]["AccountIds"]
    return body


def _groups(region, group, overrides):
    if not region.accounts:
        return [{**group, "Regions": [region.name], "ParameterOverrides": _listed(overrides)}]
    declared = stacks.region_body(region.layout)["Parameters"]
    return [
        {
            **group,
            "DeploymentTargets": {**group["DeploymentTargets"], "Accounts": [account]},
            "Regions": [region.name],
            "ParameterOverrides": _listed(overrides | {
                name: value for name, value in own.items() if name in declared}),
        }
        for account, own in sorted(region.accounts.items())
    ]


def _listed(overrides):
    return [{"ParameterKey": key, "ParameterValue": value} for key, value in sorted(overrides.items())]
