"""The parts of the system by what they are for, found among a scenario's resources."""

from dataclasses import dataclass

from .finding import Finding
from .policy import listed

# Part → the template and logical id that it has. What uses a part is not looked up by name.
ANCHORS = {
    "artifact_bucket": ("artifacts", "ArtifactBucket", "AWS::S3::Bucket"),
    "tracker_repository": ("artifacts", "TrackerRepository", "AWS::ECR::Repository"),
    "agent_repository": ("artifacts", "AgentRepository", "AWS::ECR::Repository"),
    "key": ("data", "Key", "AWS::KMS::Key"),
    "event_stream": ("data", "EventStream", "AWS::Kinesis::Stream"),
    "core_data_stream": ("data", "CoreDataStream", "AWS::Kinesis::Stream"),
    "records_bucket": ("data", "RecordsBucket", "AWS::S3::Bucket"),
    "redis": ("data-redis", "Redis", "AWS::ElastiCache::ReplicationGroup"),
    "redis_url": ("data-redis", "TrackerRedisUrl", "AWS::SecretsManager::Secret"),
    "updater_password": ("data-redis", "UpdaterPassword", "AWS::SecretsManager::Secret"),
    "consumer": ("lambdas", "Consumer", "AWS::Lambda::Function"),
    "consumer_mapping": ("lambdas", "ConsumerMapping", "AWS::Lambda::EventSourceMapping"),
    "consumer_logs": ("lambdas", "ConsumerLogs", "AWS::Logs::LogGroup"),
    "updater": ("lambdas", "Updater", "AWS::Lambda::Function"),
    "updater_mapping": ("lambdas", "UpdaterMapping", "AWS::Lambda::EventSourceMapping"),
    "updater_logs": ("lambdas", "UpdaterLogs", "AWS::Logs::LogGroup"),
    "cluster": ("compute", "Cluster", "AWS::ECS::Cluster"),
    "service": ("compute", "Service", "AWS::ECS::Service"),
    "task": ("compute", "Task", "AWS::ECS::TaskDefinition"),
    "tracker_logs": ("compute", "TrackerLogs", "AWS::Logs::LogGroup"),
    "metric_logs": ("compute", "MetricLogs", "AWS::Logs::LogGroup"),
    "operator_redis_url": ("data-redis", "OperatorRedisUrl", "AWS::SecretsManager::Secret"),
    "operator_task": ("operator", "OperatorTask", "AWS::ECS::TaskDefinition"),
    "operator_logs": ("operator", "OperatorLogs", "AWS::Logs::LogGroup"),
    "topic": ("observability-events", "AlarmTopic", "AWS::SNS::Topic"),
}


@dataclass
class Parts:
    """The parts, as attributes; `missing` holds a finding for each that is not there."""

    system: object
    missing: list

    def __getattr__(self, name):
        raise AttributeError(f"the system has no {name.replace('_', ' ')}")

    @property
    def region(self):
        return self.system.scenario.region

    @property
    def account(self):
        return self.system.scenario.account

    def parameter(self, name):
        """What an operator gives, or a stack's output; empty: nothing."""
        return self.system.parameters.get(name) or ""

    def container(self, task, name):
        """A container of a task definition."""
        return next((one for one in listed(task.get("ContainerDefinitions"))
                     if isinstance(one, dict) and one.get("Name") == name), {})

    @property
    def table_arn(self):
        """The table that rows go to: the region's own, or its replica of the table of all regions."""
        own = self.system.named("EventTable")
        name = own.ref if own else self.parameter("GlobalTableName")
        return f"arn:{self.system.scenario.partition}:dynamodb:{self.region}:{self.account}:table/{name}"

    @property
    def table_name(self):
        return self.table_arn.rpartition("/")[2]


def of(system):
    """The parts of a system."""
    parts = Parts(system, [])
    for part, (file, name, kind) in ANCHORS.items():
        found = system.named(name)
        if found and found.type == kind:
            setattr(parts, part, found)
        else:
            parts.missing.append(Finding(file, name, f"is not there: the system needs it, a {kind}"))
    return parts
