"""The API calls that the system really makes, and the permission that each takes.

Every grant says who calls what on which resource in which context, and why. `iam` demands that each is
allowed, and that nothing else is. `CALLS` ties the grants to the source: `source.aws_calls` reads every
AWS call out of it, and a call without an entry here is a red test.
"""

from dataclasses import dataclass

TRACKER, EXECUTION = "tracker", "ECS, starting tasks"
CONSUMER, UPDATER = "kinesis-consumer", "redis-updater"
OPERATOR, OPERATOR_EXECUTION = "an operator's core-data", "ECS, starting an operator's core-data"
ROLES = (TRACKER, EXECUTION, CONSUMER, UPDATER, OPERATOR, OPERATOR_EXECUTION)
ADMINISTRATOR, ORGANIZATION = "the account", "the organization"
# Run by people with credentials of their own: no template grants it.
REDRIVE, CORE_DATA = "an operator's redrive", "the data team's core-data"
# Not in the templates yet.
ARCHIVER = "archiver"

# File and call of the source → who makes it, and the permission that it takes.
CALLS = {
    ("deploy/runtime/src/kinesis.rs", "kinesis", "put_records"):
        ({TRACKER, REDRIVE, CORE_DATA}, "kinesis:PutRecords"),
    ("tracker/src/delivery/spill.rs", "object_store", "put"): ({TRACKER}, "s3:PutObject"),
    ("tracker/src/delivery/spill.rs", "object_store", "list"): ({REDRIVE}, "s3:ListBucket"),
    ("tracker/src/delivery/spill.rs", "object_store", "get"): ({REDRIVE}, "s3:GetObject"),
    ("tracker/src/delivery/spill.rs", "object_store", "delete"): ({REDRIVE}, "s3:DeleteObject"),
    ("kinesis-consumer/src/store.rs", "dynamodb", "batch_write_item"): ({CONSUMER}, "dynamodb:BatchWriteItem"),
    ("kinesis-consumer/src/store/once.rs", "dynamodb", "put_item"): ({CONSUMER}, "dynamodb:PutItem"),
    # Its puts take dynamodb:PutItem.
    ("kinesis-consumer/src/store/once.rs", "dynamodb", "transact_write_items"):
        ({CONSUMER}, "dynamodb:ConditionCheckItem"),
    ("kinesis-consumer/src/archive/store.rs", "object_store", "put"): ({ARCHIVER}, "s3:PutObject"),
    ("deploy/runtime/src/lambda/failure_store.rs", "object_store", "put"):
        ({CONSUMER, ARCHIVER, UPDATER}, "s3:PutObject"),
    ("deploy/runtime/src/storage.rs", "object_store", "head"): ({OPERATOR}, "s3:GetObject"),
    ("deploy/runtime/src/storage.rs", "object_store", "get_range"): ({OPERATOR}, "s3:GetObject"),
    # The ECS agent asks for it in the task's name.
    ("tracker/src/task_protection.rs", "ecs agent", "task-protection"): ({TRACKER}, "ecs:UpdateTaskProtection"),
}

READ_STREAM = ("kinesis:DescribeStream", "kinesis:DescribeStreamSummary", "kinesis:GetRecords",
               "kinesis:GetShardIterator", "kinesis:ListShards")
PULL = ("ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer")
LOG = ("logs:CreateLogStream", "logs:PutLogEvents")
INTERFACES = ("ec2:AssignPrivateIpAddresses", "ec2:CreateNetworkInterface", "ec2:DeleteNetworkInterface",
              "ec2:DescribeNetworkInterfaces", "ec2:DescribeSubnets", "ec2:UnassignPrivateIpAddresses")


@dataclass(frozen=True)
class Grant:
    """`who` may call `action` on `resource`; both may hold wildcards."""

    who: str
    action: str
    resource: str
    why: str
    # Key of the context → the values in which it is allowed; (None,) is: only without the key.
    context: tuple = ()
    # Contexts in which it has to be allowed as well, where no key restricts it.
    also: tuple = ()


def of(parts):
    """All grants of a system."""
    found = [*_tracker(parts), *_execution(parts), *_operator(parts), *_consumer(parts), *_updater(parts),
             *_resources(parts)]
    return [_over_tls(grant) for grant in found]


def _over_tls(grant):
    """S3 refuses plain HTTP: every bucket's policy says so."""
    if grant.action.startswith("s3:"):
        return Grant(grant.who, grant.action, grant.resource, grant.why,
                     (*grant.context, ("aws:SecureTransport", ("true",))), grant.also)
    return grant


def _via(parts, *services):
    return (("kms:ViaService", tuple(f"{service}.{parts.region}.amazonaws.com" for service in services)),)


def _each(who, actions, resource, why, **more):
    return [Grant(who, action, resource, why, **more) for action in actions]


def _logs(who, group, why):
    return _each(who, LOG, f"{group.arn.removesuffix(':*')}:log-stream:*", why)


def _tracker(parts):
    stream, bucket = parts.event_stream.arn, parts.records_bucket.arn
    cluster = parts.cluster.arn.replace(":cluster/", ":task/")
    return [
        Grant(TRACKER, "kinesis:PutRecords", stream, "delivers events"),
        Grant(TRACKER, "s3:PutObject", f"{bucket}/spill/*", "spills what a shutdown could not deliver"),
        Grant(TRACKER, "kms:GenerateDataKey", parts.key.arn, "Kinesis and S3 encrypt what it writes",
              _via(parts, "kinesis", "s3")),
        Grant(TRACKER, "ecs:UpdateTaskProtection", f"{cluster}/*", "the ECS agent protects the task"),
        *_logs(TRACKER, parts.metric_logs, "the metrics agent writes metrics"),
    ]


def secrets(parts):
    """The secrets that a task is given as variables."""
    given = (parts.parameter("LinkKeysSecretArn"), parts.parameter("ConversionKeysSecretArn"))
    return [parts.redis_url.ref, *filter(None, given)]


def _execution(parts):
    repositories = (parts.tracker_repository, parts.agent_repository)
    return [
        *_start(parts, EXECUTION, repositories, secrets(parts), parts.tracker_logs),
        *_start(parts, OPERATOR_EXECUTION, repositories[:1], [parts.operator_redis_url.ref], parts.operator_logs),
    ]


def _start(parts, who, repositories, given, logs):
    """What ECS does to start a task."""
    return [
        Grant(who, "ecr:GetAuthorizationToken", "*", "logs in to ECR, which takes no resource"),
        *(grant for one in repositories for grant in _each(who, PULL, one.arn, "pulls images")),
        *(Grant(who, "secretsmanager:GetSecretValue", arn, "gives the task its secrets") for arn in given),
        Grant(who, "kms:Decrypt", parts.key.arn, "Secrets Manager decrypts them", _via(parts, "secretsmanager")),
        *_logs(who, logs, "the awslogs driver writes logs"),
    ]


def _operator(parts):
    files = f"{parts.records_bucket.arn}/core-data/*"
    return [
        Grant(OPERATOR, "s3:GetObject", files, "reads the files that it verifies"),
        Grant(OPERATOR, "kms:Decrypt", parts.key.arn, "S3 decrypts them", _via(parts, "s3")),
    ]


def _code(function):
    """The context in which a function's own code calls, other than Lambda in its name."""
    return (("lambda:SourceFunctionArn", function.arn),)


def _function(parts, who, function, stream, logs):
    bucket = parts.records_bucket.arn
    # Lambda's poller, its on-failure destination and its variables use the key in the role's name.
    contexts = tuple((("kms:ViaService", f"{service}.{parts.region}.amazonaws.com"),)
                     for service in ("kinesis", "s3", "lambda"))
    by_code = (*contexts[1], *_code(function))
    return [
        *_each(who, READ_STREAM, stream, "Lambda's poller reads the stream with the function's role"),
        Grant(who, "s3:PutObject", f"{bucket}/failed-records/*", "keeps records that it cannot use",
              also=(_code(function),)),
        Grant(who, "s3:PutObject", f"{bucket}/aws/lambda/*", "the mapping's on-failure destination"),
        Grant(who, "s3:ListBucket", bucket, "the mapping looks whether its destination is there"),
        Grant(who, "kms:Decrypt", parts.key.arn, "stream and variables are encrypted", also=contexts),
        Grant(who, "kms:GenerateDataKey", parts.key.arn, "the bucket is encrypted", also=(*contexts, by_code)),
        *_logs(who, logs, "Lambda writes its logs"),
    ]


def _consumer(parts):
    return [
        *_function(parts, CONSUMER, parts.consumer, parts.event_stream.arn, parts.consumer_logs),
        *_each(CONSUMER, ("dynamodb:BatchWriteItem", "dynamodb:ConditionCheckItem", "dynamodb:PutItem"),
               parts.table_arn, "writes rows", also=(_code(parts.consumer),)),
    ]


def _updater(parts):
    return [
        *_function(parts, UPDATER, parts.updater, parts.core_data_stream.arn, parts.updater_logs),
        # Lambda names no resource when it asks, and the function's own code must not ask.
        *_each(UPDATER, INTERFACES, "*", "Lambda makes the function's network interfaces",
               context=(("lambda:SourceFunctionArn", (None,)),)),
    ]


def _resources(parts):
    """What resources' own policies allow to others than the roles."""
    ours = (("aws:SourceAccount", (parts.account,)),)
    system = parts.system
    found = [
        Grant("cloudwatch.amazonaws.com", "sns:Publish", parts.topic.ref, "alarms notify", ours),
        Grant("cloudwatch.amazonaws.com", "kms:Decrypt", parts.key.arn, "the topic is encrypted", ours),
        Grant("cloudwatch.amazonaws.com", "kms:GenerateDataKey", parts.key.arn, "the topic is encrypted", ours),
        Grant(ADMINISTRATOR, "kms:*", parts.key.arn, "the account keeps its key, and roles' policies count"),
    ]
    for bucket in system.of_type("AWS::S3::Bucket"):
        found += [Grant(ADMINISTRATOR, "s3:*", resource, "the account uses its buckets")
                  for resource in (bucket.arn, f"{bucket.arn}/*")]
    for topic in system.of_type("AWS::SNS::Topic"):
        found.append(Grant(ADMINISTRATOR, "sns:*", topic.ref, "the account uses its topics"))
    for repository in system.of_type("AWS::ECR::Repository"):
        found.append(Grant(ADMINISTRATOR, "ecr:*", repository.arn, "the account uses its repositories"))
    access_logs = system.named("AccessLogBucket")
    if access_logs:
        found.append(Grant("logdelivery.elasticloadbalancing.amazonaws.com", "s3:PutObject",
                           f"{access_logs.arn}/AWSLogs/{parts.account}/*", "the load balancer logs"))
    if parts.parameter("OrganizationId"):
        found.append(Grant(ORGANIZATION, "s3:GetObject", f"{parts.artifact_bucket.arn}/*",
                           "other accounts of the organization run the packages"))
        for repository in (parts.tracker_repository, parts.agent_repository):
            found += _each(ORGANIZATION, PULL, repository.arn, "other accounts run the images")
    return found


def trusts(parts):
    """Who may take which role: role's principal → service and the context in which it asks."""
    ours = (("aws:SourceAccount", (parts.account,)),)
    return {
        TRACKER: ("ecs-tasks.amazonaws.com", ours),
        EXECUTION: ("ecs-tasks.amazonaws.com", ours),
        OPERATOR: ("ecs-tasks.amazonaws.com", ours),
        OPERATOR_EXECUTION: ("ecs-tasks.amazonaws.com", ours),
        CONSUMER: ("lambda.amazonaws.com", ()),
        UPDATER: ("lambda.amazonaws.com", ()),
    }


def roles(parts):
    """What names each principal's role: the resource and its property."""
    return {
        TRACKER: (parts.task, "TaskRoleArn"),
        EXECUTION: (parts.task, "ExecutionRoleArn"),
        OPERATOR: (parts.operator_task, "TaskRoleArn"),
        OPERATOR_EXECUTION: (parts.operator_task, "ExecutionRoleArn"),
        CONSUMER: (parts.consumer, "Role"),
        UPDATER: (parts.updater, "Role"),
    }
