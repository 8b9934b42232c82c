"""Requests as AWS would check them: an action on what a deployment has, and on what is somebody else's.

The service authorization reference says on which types of resources an action is checked, and how
their ARNs look. Whether a type is told apart by name, by tag or not at all is said here.
"""

import re

from needs import REFERENCE
from roles import ACCOUNT, REGIONS

# Types whose names begin with the stack's (CloudFormation), or are set so in the templates.
BY_NAME = {
    "cloudwatch:alarm": "adtrack-observability-Alarm-1A2B",
    "dynamodb:table": "adtrack-data-EventTable-1A2B",
    "dynamodb:index": "adtrack-data-EventTable-1A2B",
    "ecr:repository": "adtrack-artifacts-tracker-1a2b",
    "ecs:cluster": "adtrack-compute-Cluster-1A2B",
    "ecs:service": "adtrack-compute-Cluster-1A2B",
    "ecs:service-deployment": "adtrack-compute-Cluster-1A2B",
    "ecs:task-definition": "adtrack-compute-Task-1A2B",
    "elasticache:user": "adtrack-tracker",
    "elasticache:usergroup": "adtrack-users",
    "iam:role": "adtrack/adtrack-lambdas-ConsumerRole-1A2B",
    "kinesis:stream": "adtrack-data-EventStream-1A2B",
    "lambda:function": "adtrack-lambdas-Consumer-1A2B",
    "logs:log-group": "adtrack-lambdas-ConsumerLogs-1A2B",
    "route53:hostedzone": "Z1",
    "s3:bucket": "adtrack-artifacts-artifacts-1a2b",
    "s3:object": "adtrack-artifacts-artifacts-1a2b",
    "ssm:parameter": "adtrack/adtrack/TableName",
    "sns:topic": "adtrack-observability-Topic-1A2B",
}
# Types whose names say nothing of the stack.
BY_TAG = {
    "acm:certificate",
    "application-autoscaling:ScalableTarget", "cloudwatch:dashboard",
    "ec2:internet-gateway", "ec2:route-table", "ec2:security-group", "ec2:subnet", "ec2:vpc", "ec2:vpc-endpoint",
    "elasticache:cluster", "elasticache:parametergroup", "elasticache:replicationgroup", "elasticache:subnetgroup",
    "elasticloadbalancing:listener/app", "elasticloadbalancing:loadbalancer/app/",
    "elasticloadbalancing:targetgroup", "elasticloadbalancing:listener-rule/app",
    "kms:key", "secretsmanager:Secret", "wafv2:webacl", "wafv2:loadbalancer/app/",
}
# Types that neither tells apart.
BY_NOTHING = {"lambda:eventSourceMapping", "route53:change", "route53:healthcheck"}
# Made by the way: only the action that makes one is checked on it.
MADE_ONLY = {"elasticache:CreateSnapshot": "elasticache:snapshot"}
OURS = set(BY_NAME) | BY_TAG | BY_NOTHING
# Where the reference has another spelling of the type, or none: (action's service, type) as it is checked.
ALSO = {"elasticloadbalancing:loadbalancer": "elasticloadbalancing:loadbalancer/app/",
        "kinesis:kmsKey": "kms:key"}
# Where the reference names no type, or one that these stacks do not have.
CHECKED_ON = {
    # Both take a stream's ARN, and policies in use name one.
    "kinesis:UpdateShardCount": ["kinesis:stream"],
    "kinesis:UpdateStreamMode": ["kinesis:stream"],
    # A new one has no ARN yet.
    "acm:RequestCertificate": [],
    "route53:ChangeTagsForResource": ["route53:healthcheck"],
    "route53:ListTagsForResource": ["route53:healthcheck"],
}
FOREIGN = "payroll-db-1A2B"
TAGS = "aws:ResourceTag/"


def context(deployment="adtrack", region=REGIONS[0], tagged=True, **keys):
    """What IAM knows of a request on a resource of `deployment`."""
    found = {
        "aws:RequestedRegion": region,
        "aws:ResourceAccount": ACCOUNT,
        "aws:RequestTag/deployment": "adtrack",
        "lambda:FunctionArn": f"arn:aws:lambda:{region}:{ACCOUNT}:function:{deployment}-lambdas-Consumer-1A2B",
    }
    if tagged:
        found[f"{TAGS}deployment"] = deployment
        found[f"{TAGS}aws:cloudformation:stack-name"] = f"{deployment}-compute"
    return found | keys


def arn(kind, foreign=False, region=REGIONS[0]):
    """ARN of a resource of a type ("s3:bucket"): the deployment's, or somebody else's."""
    service, name = kind.split(":", 1)
    text = REFERENCE.resources.get_resource_type_details(service, name)["arn"]
    known = {"Partition": "aws", "Region": region, "Account": ACCOUNT, "Scope": "regional"}
    own = FOREIGN if foreign else BY_NAME.get(kind, "0a1b2c")
    if kind == "s3:object":
        return f"arn:aws:s3:::{own}/packages/kinesis-consumer.zip"
    return re.sub(r"\$\{(\w+)\}", lambda found: known.get(found[1], own), text)


def types_of(action):
    """The types of resources on which an action of a deployment is checked; none: on "*"."""
    if action in CHECKED_ON:
        return CHECKED_ON[action]
    service, name = action.split(":", 1)
    details = REFERENCE.actions.get_action_details(service, name)
    kinds = {f"{service}:{one['name']}" for one in details["resourceTypes"]}
    kinds = {ALSO.get(kind, kind) for kind in kinds}
    return sorted(kinds & OURS | {kind for name, kind in MADE_ONLY.items() if name == action})


def is_made_by(action, kind):
    """Whether the action makes a resource of the type: then it has no tags yet."""
    name = re.sub(r"[^a-z]", "", action.split(":", 1)[1].lower())
    noun = re.sub(r"[^a-z]", "", kind.split(":", 1)[1].split("/")[0].lower())
    return name.startswith(("create", "register")) and (
        name.endswith(noun) or (action, kind) in {
            ("elasticache:CreateReplicationGroup", "elasticache:cluster"),
            ("elasticache:CreateCacheCluster", "elasticache:cluster"),
            ("application-autoscaling:RegisterScalableTarget", "application-autoscaling:ScalableTarget")})


def level(action):
    """The access level that the reference gives an action."""
    return REFERENCE.actions.get_action_details(*action.split(":", 1))["accessLevel"]
