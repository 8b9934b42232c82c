"""What services demand of settings that CloudFormation's schema leaves open, so that a roll-out fails late
or, worse, a setting does nothing."""

from adtrack_deploy.template import walk

from .intrinsics import references

# https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_LoadBalancerAttribute.html
BALANCER_KEYS = frozenset({
    "access_logs.s3.bucket", "access_logs.s3.enabled", "access_logs.s3.prefix", "client_keep_alive.seconds",
    "connection_logs.s3.bucket", "connection_logs.s3.enabled", "connection_logs.s3.prefix",
    "deletion_protection.enabled", "idle_timeout.timeout_seconds", "ipv6.deny_all_igw_traffic",
    "load_balancing.cross_zone.enabled", "routing.http.desync_mitigation_mode",
    "routing.http.drop_invalid_header_fields.enabled", "routing.http.preserve_host_header.enabled",
    "routing.http.x_amzn_tls_version_and_cipher_suite.enabled", "routing.http.xff_client_port.enabled",
    "routing.http.xff_header_processing.mode", "routing.http2.enabled", "waf.fail_open.enabled",
    "zonal_shift.config.enabled"})
# https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_TargetGroupAttribute.html
GROUP_KEYS = frozenset({
    "deregistration_delay.timeout_seconds", "load_balancing.algorithm.anomaly_mitigation",
    "load_balancing.algorithm.type", "load_balancing.cross_zone.enabled", "slow_start.duration_seconds",
    "stickiness.app_cookie.cookie_name", "stickiness.app_cookie.duration_seconds", "stickiness.enabled",
    "stickiness.lb_cookie.duration_seconds", "stickiness.type",
    "target_group_health.dns_failover.minimum_healthy_targets.count",
    "target_group_health.dns_failover.minimum_healthy_targets.percentage",
    "target_group_health.unhealthy_state_routing.minimum_healthy_targets.count",
    "target_group_health.unhealthy_state_routing.minimum_healthy_targets.percentage"})
ATTRIBUTES = {
    "AWS::ElasticLoadBalancingV2::LoadBalancer": ("LoadBalancerAttributes", BALANCER_KEYS),
    "AWS::ElasticLoadBalancingV2::TargetGroup": ("TargetGroupAttributes", GROUP_KEYS),
}
# https://docs.aws.amazon.com/waf/latest/APIReference/API_ByteMatchStatement.html
BYTE_MATCH = ("FieldToMatch", "PositionalConstraint", "SearchString", "TextTransformations")
CHOICES = {
    "load_balancing.algorithm.type": {"round_robin", "least_outstanding_requests", "weighted_random"},
    "routing.http.desync_mitigation_mode": {"defensive", "strictest"},
}


def judge(system):
    """Settings that their services refuse or pass over."""
    for kind, (name, keys) in ATTRIBUTES.items():
        for resource in system.of_type(kind):
            yield from _attributes(resource, name, keys)
    for balancer in system.of_type("AWS::ElasticLoadBalancingV2::LoadBalancer"):
        yield from _access_logs(system, balancer)
    for task in system.of_type("AWS::ECS::TaskDefinition"):
        yield from _temporary_folders(task)
    for acl in system.of_type("AWS::WAFv2::WebACL"):
        yield from _byte_matches(acl)
    # https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/V2globaltables_reqs_bestpractices.html
    for table in system.of_type("AWS::DynamoDB::GlobalTable"):
        view = table.get("StreamSpecification.StreamViewType")
        if view != "NEW_AND_OLD_IMAGES" and len(table.get("Replicas", [])) > 1:
            yield table.finding(f"is replicated by a stream of {view or 'nothing'}; DynamoDB needs NEW_AND_OLD_IMAGES")


def _access_logs(system, balancer):
    """Logs to a bucket: the load balancer tries to write when it is made, so the bucket's policy has to be there."""
    settings = {item.get("Key"): item.get("Value") for item in balancer.get("LoadBalancerAttributes", [])}
    if settings.get("access_logs.s3.enabled") != "true":
        return
    written = system.templates[balancer.file]["Resources"][balancer.name]
    waits = {name for name, _ in references(written.get("Properties"))} | set(balancer.depends_on)
    policies = {policy.name for policy in system.of_type("AWS::S3::BucketPolicy")
                if policy.get("Bucket") == settings.get("access_logs.s3.bucket")}
    if not waits & policies:
        yield balancer.finding("does not wait for the policy of the bucket of its access logs: it is refused "
                               "if the policy is not there yet")


def _temporary_folders(task):
    """A container whose root is read-only has its temporary folder on a volume."""
    for container in task.get("ContainerDefinitions", []):
        folders = {item.get("ContainerPath") for item in container.get("MountPoints", []) if not item.get("ReadOnly")}
        for entry in container.get("Environment", []):
            if entry.get("Name") == "TMPDIR" and entry.get("Value") not in folders:
                yield task.finding(f"TMPDIR of {container.get('Name')} is {entry.get('Value')}, which is no volume "
                                   "that it may write to")


def _byte_matches(acl):
    for path, value in walk(acl.properties):
        if path and path[-1] == "ByteMatchStatement" and isinstance(value, dict):
            missing = [key for key in BYTE_MATCH if not value.get(key)]
            for item in value.get("TextTransformations", []):
                missing += [f"TextTransformations.{key}" for key in ("Priority", "Type") if key not in item]
            for key in missing:
                yield acl.finding(f"the ByteMatchStatement of {value.get('SearchString')} has no {key}, "
                                  "which AWS WAF needs")


def _attributes(resource, name, keys):
    seen = set()
    for item in resource.get(name, []):
        key, value = item.get("Key"), item.get("Value")
        if key not in keys:
            yield resource.finding(f"{key} is not one of {name}")
        if key in seen:
            yield resource.finding(f"{key} is there twice")
        seen.add(key)
        if key in CHOICES and value not in CHOICES[key]:
            yield resource.finding(f"{key} is {value}, not one of {', '.join(sorted(CHOICES[key]))}")
        if str(key).endswith(".enabled") and value not in ("true", "false"):
            yield resource.finding(f"{key} is {value}, neither true nor false")
