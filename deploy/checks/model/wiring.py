"""What is tied to what: requests find the trackers, programs find their streams, table, Redis and logs.

Everything here follows from what a value is for, not from how a template writes it: a variable has to
hold the name of that one resource, whatever Ref, Sub or output leads there.
"""

import re

from . import connections
from .parts import of as parts_of
from .policy import listed
from .synth import number, truth

# TLS 1.2 and 1.3 alone.
SSL_POLICIES = {"ELBSecurityPolicy-TLS13-1-2-2021-06", "ELBSecurityPolicy-TLS13-1-2-Res-2021-06",
                "ELBSecurityPolicy-TLS13-1-3-2021-06"}
ELB = "AWS::ElasticLoadBalancingV2::"


def judge(system):
    """Findings of a system's wiring."""
    parts = parts_of(system)
    if parts.missing:
        return []
    checks = (_entry, _targets, _scaling, _firewall, _routing, _fargate, _tracker, _operator, _functions,
              _mappings, _names_for_others)
    return [finding for check in checks for finding in check(parts)]


def _same(resource, path, expected, what):
    """A finding if the property is not what it has to be."""
    value = resource.get(path)
    if value != expected:
        shown = value if isinstance(value, str | int | float) else "something else"
        yield resource.finding(f"{path} is not {what}" + (f" but {shown}" if value is not None else ""))


# From clients to trackers.


def _entry(parts):
    system = parts.system
    target = _target_group(parts)
    if not target:
        yield parts.service.finding("registers its tasks in no target group of these templates")
        return
    forward = [{"Type": "forward", "TargetGroupArn": target.ref}]
    balancers = system.of_type(f"{ELB}LoadBalancer")
    if not balancers:
        yield from _rule_of_existing(parts, forward)
        return
    balancer = balancers[0]
    yield from _same(balancer, "Type", "application", "an application load balancer")
    yield from _same(balancer, "Scheme", "internet-facing", "internet-facing: ad clients have to reach it")
    yield from _same(balancer, "IpAddressType", parts.parameter("IpAddressType") or "ipv4",
                     "that which an operator sets by IpAddressType")
    plain = parts.parameter("InsecurePlainHttp") == "true"
    redirect = [{"Type": "redirect", "RedirectConfig": {"Protocol": "HTTPS", "Port": "443", "StatusCode": "HTTP_301"}}]
    expected = {(80, "HTTP"): forward if plain else redirect}
    if not plain:
        expected[443, "HTTPS"] = forward
    seen = {}
    for listener in system.of_type(f"{ELB}Listener"):
        key = number(listener.get("Port")), listener.get("Protocol")
        seen[key] = listener
        yield from _same(listener, "LoadBalancerArn", balancer.ref, "the load balancer")
        if key not in expected:
            yield listener.finding(f"listens on {key[1]} {key[0]}, which no flow needs")
        elif listener.get("DefaultActions") != expected[key]:
            yield listener.finding("does not forward to the trackers" if expected[key] is forward
                                   else "does not redirect to HTTPS")
        if key[1] == "HTTPS":
            yield from _certificates(parts, listener)
    for port, protocol in sorted(set(expected) - set(seen)):
        yield balancer.finding(f"has no listener for {protocol} {port}")
    for rule in system.of_type(f"{ELB}ListenerRule"):
        yield rule.finding("is a rule that no flow needs")


def _certificates(parts, listener):
    if listener.get("SslPolicy") not in SSL_POLICIES:
        yield listener.finding(f"SslPolicy {listener.get('SslPolicy')} allows more than TLS 1.2 and 1.3")
    made = parts.system.of_type("AWS::CertificateManager::Certificate")
    expected = made[0].ref if made else parts.parameter("CertificateArn")
    if listener.get("Certificates") != [{"CertificateArn": expected}]:
        yield listener.finding("does not have the certificate of the tracking domain")
    for certificate in made:
        yield from _same(certificate, "DomainName", parts.parameter("TrackingDomain"), "the tracking domain")
        yield from _same(certificate, "ValidationMethod", "DNS", "validation by DNS")
        zones = [(one.get("DomainName"), one.get("HostedZoneId"))
                 for one in listed(certificate.get("DomainValidationOptions"))]
        if zones != [(parts.parameter("TrackingDomain"), parts.parameter("HostedZoneId"))]:
            yield certificate.finding("is not validated in the hosted zone")
    wanted = {one for one in parts.parameter("CustomerCertificateArns").split(",") if one}
    given = []
    for extra in parts.system.of_type(f"{ELB}ListenerCertificate"):
        yield from _same(extra, "ListenerArn", listener.ref, "the HTTPS listener")
        given += [one.get("CertificateArn") for one in listed(extra.get("Certificates"))]
    if sorted(map(str, given)) != sorted(wanted):
        yield listener.finding("does not have each customer's certificate once")


def _rule_of_existing(parts, forward):
    rules = parts.system.of_type(f"{ELB}ListenerRule")
    if len(rules) != 1:
        yield parts.service.finding(f"{len(rules)} rules lead from the existing listener to the trackers")
        return
    [rule] = rules
    yield from _same(rule, "ListenerArn", parts.parameter("HttpsListenerArn"), "the operator's listener")
    if rule.get("Actions") != forward:
        yield rule.finding("does not forward to the trackers")
    names = parts.parameter("HostNames").split(",")
    hosts = [{"Field": "host-header", "HostHeaderConfig": {"Values": names}}]
    if rule.get("Conditions") != hosts:
        yield rule.finding("is not for the host names that an operator sets")
    if str(rule.get("Priority")) != (parts.parameter("RulePriority") or "100"):
        yield rule.finding("does not have the priority that an operator sets")


def _target_group(parts):
    arns = [one.get("TargetGroupArn") for one in listed(parts.service.get("LoadBalancers")) if isinstance(one, dict)]
    found = parts.system.called(arns[0]) if len(arns) == 1 else None
    return found if found and found.type == f"{ELB}TargetGroup" else None


def _targets(parts):
    """The target group is made for the tracker's port, and the service's container listens there."""
    groups = parts.system.of_type(f"{ELB}TargetGroup")
    target = _target_group(parts)
    for group in groups:
        if group is not target:
            yield group.finding("is a target group that nothing registers in")
    if not target:
        return
    port = connections.TRACKER_PORT
    yield from _same(target, "TargetType", "ip", "ip, which Fargate needs")
    yield from _same(target, "Protocol", "HTTP", "HTTP")
    if number(target.get("Port")) != port:
        yield target.finding(f"Port is not {port}, where trackers listen")
    vpcs = parts.system.of_type("AWS::EC2::VPC")
    yield from _same(target, "VpcId", vpcs[0].ref if vpcs else parts.parameter("VpcId"), "the VPC")
    yield from _same(target, "HealthCheckPath", "/health/check", "/health/check, which says whether it can serve")
    if target.get("HealthCheckPort") not in (None, "traffic-port", str(port)):
        yield target.finding("checks the health of another port")
    if target.get("HealthCheckEnabled") not in (None, True, "true"):
        yield target.finding("does not check health")
    if target.get("HealthCheckProtocol") not in (None, "HTTP"):
        yield target.finding("checks health by another protocol")
    if target.get("ProtocolVersion") not in (None, "HTTP1"):
        yield target.finding("speaks another version of HTTP than the trackers")
    if (target.get("Matcher.HttpCode")) != "200":
        yield target.finding("takes another status than 200 for healthy")
    [registered] = listed(parts.service.get("LoadBalancers"))
    if registered.get("ContainerName") != "tracker" or number(registered.get("ContainerPort")) != port:
        yield parts.service.finding(f"does not register the tracker's port {port}")
    tracker = parts.container(parts.task, "tracker")
    ports = [(number(one.get("ContainerPort")), one.get("Protocol", "tcp"))
             for one in listed(tracker.get("PortMappings")) if isinstance(one, dict)]
    if ports != [(port, "tcp")]:
        yield parts.task.finding(f"the tracker's container opens {ports}, not {port}")


def _scaling(parts):
    system = parts.system
    for target in system.of_type("AWS::ApplicationAutoScaling::ScalableTarget"):
        name = parts.service.identity.attributes["Name"]
        yield from _same(target, "ResourceId", f"service/{parts.cluster.ref}/{name}", "the service of trackers")
        yield from _same(target, "ScalableDimension", "ecs:service:DesiredCount", "the number of tasks")
        yield from _same(target, "ServiceNamespace", "ecs", "ecs")
        fewest, most = number(target.get("MinCapacity")), number(target.get("MaxCapacity"))
        if fewest is None or most is None or not 1 <= fewest <= most:
            yield target.finding(f"scales between {fewest} and {most} tasks")
        for policy in system.of_type("AWS::ApplicationAutoScaling::ScalingPolicy"):
            yield from _same(policy, "ScalingTargetId", target.ref, "that of the service")
            yield from _scaling_metric(parts, policy)
    if len(system.of_type("AWS::ApplicationAutoScaling::ScalableTarget")) != 1:
        yield parts.service.finding("is not scaled by one target")
    metrics = {policy.get("TargetTrackingScalingPolicyConfiguration.PredefinedMetricSpecification.PredefinedMetricType")
               for policy in system.of_type("AWS::ApplicationAutoScaling::ScalingPolicy")}
    for metric in {"ALBRequestCountPerTarget", "ECSServiceAverageCPUUtilization"} - metrics:
        yield parts.service.finding(f"is not scaled by {metric}")


def _scaling_metric(parts, policy):
    base = "TargetTrackingScalingPolicyConfiguration.PredefinedMetricSpecification"
    if policy.get(f"{base}.PredefinedMetricType") == "ALBRequestCountPerTarget":
        balancers = parts.system.of_type(f"{ELB}LoadBalancer")
        full = balancers[0].identity.attributes["LoadBalancerFullName"] if balancers \
            else parts.parameter("LoadBalancerFullName")
        target = _target_group(parts)
        if target:
            name = target.identity.attributes["TargetGroupFullName"]
            yield from _same(policy, f"{base}.ResourceLabel", f"{full}/{name}", "load balancer and target group")
    if truth(policy.get("TargetTrackingScalingPolicyConfiguration.DisableScaleIn")):
        yield policy.finding("never scales in")


def _firewall(parts):
    acls = parts.system.of_type("AWS::WAFv2::WebACL")
    wanted = parts.parameter("WebFirewall") == "true"
    if wanted != bool(acls):
        yield parts.service.finding("WebFirewall and the web ACL do not agree")
    for acl in acls:
        yield from _same(acl, "Scope", "REGIONAL", "regional, as load balancers are")
        ties = parts.system.of_type("AWS::WAFv2::WebACLAssociation")
        arns = [one.get("WebACLArn") for one in ties]
        targets = [one.get("ResourceArn") for one in ties]
        balancers = [one.ref for one in parts.system.of_type(f"{ELB}LoadBalancer")]
        if arns != [acl.arn] or targets != balancers:
            yield acl.finding("does not stand before the load balancer")


def _routing(parts):
    """The record of the tracking domain leads to the load balancer, and its health check asks there."""
    balancers = parts.system.of_type(f"{ELB}LoadBalancer")
    names = balancers[0].identity.attributes if balancers else {}
    host = names.get("DNSName") or parts.parameter("LoadBalancerDnsName")
    zone = names.get("CanonicalHostedZoneID") or parts.parameter("LoadBalancerZoneId")
    checks = parts.system.of_type("AWS::Route53::HealthCheck")
    plain = parts.parameter("InsecurePlainHttp") == "true"
    for check in checks:
        base = "HealthCheckConfig."
        yield from _same(check, f"{base}FullyQualifiedDomainName", host, "the load balancer")
        yield from _same(check, f"{base}Type", "HTTP" if plain else "HTTPS", "the listener's protocol")
        if number(check.get(f"{base}Port")) != (80 if plain else 443):
            yield check.finding("asks another port than the listener's")
        yield from _same(check, f"{base}ResourcePath", "/health/check", "/health/check")
        if truth(check.get(f"{base}Inverted")) or truth(check.get(f"{base}Disabled")):
            yield check.finding("does not look whether the region is healthy")
    types = []
    for record in parts.system.of_type("AWS::Route53::RecordSet"):
        types.append(record.get("Type"))
        yield from _same(record, "Name", parts.parameter("TrackingDomain"), "the tracking domain")
        yield from _same(record, "HostedZoneId", parts.parameter("HostedZoneId"), "the hosted zone")
        yield from _same(record, "AliasTarget.DNSName", host, "the load balancer")
        yield from _same(record, "AliasTarget.HostedZoneId", zone, "the load balancer's zone")
        yield from _same(record, "Region", parts.region, "the region")
        yield from _same(record, "HealthCheckId", checks[0].ref if checks else None, "the region's health check")
        if not truth(record.get("AliasTarget.EvaluateTargetHealth")):
            yield record.finding("does not look at the targets' health")
        if parts.region not in str(record.get("SetIdentifier")):
            yield record.finding("SetIdentifier is the same in every region")
    if checks and parts.parameter("HostedZoneId"):
        expected = ["A", "AAAA"] if parts.parameter("IpAddressType") == "dualstack" else ["A"]
        if sorted(map(str, types)) != expected:
            yield checks[0].finding(f"the tracking domain has the records {types}, not {expected}")


# What programs are told.


def environment(container):
    """A container's variables and secrets: name → value; a name given twice is in the list."""
    entries = listed(container.get("Environment")) + listed(container.get("Secrets"))
    entries = [one for one in entries if isinstance(one, dict)]
    names = [one.get("Name") for one in entries]
    given = {one.get("Name"): one.get("Value", one.get("ValueFrom")) for one in entries}
    return given, sorted({name for name in names if names.count(name) > 1})


def _told(resource, program, given, expected):
    for name, value in expected.items():
        if given.get(name) != value:
            yield resource.finding(f"{program} is given {name} {given.get(name)!r}, not {value!r}")


def _tracker(parts):
    task = parts.task
    tracker = parts.container(task, "tracker")
    given, twice = environment(tracker)
    for name in twice:
        yield task.finding(f"the tracker is given {name} twice")
    secrets = {one.get("Name") for one in listed(tracker.get("Secrets")) if isinstance(one, dict)}
    proxies = [one for one in (parts.parameter("NetworkCidr"), parts.parameter("TrustedProxies")) if one]
    expected = {
        "AWS_REGION": parts.region,
        "LISTEN_ADDR": f"0.0.0.0:{connections.TRACKER_PORT}",
        # The metrics agent is in the same task, and nobody else reaches it.
        "MANAGEMENT_ADDR": "127.0.0.1:9090",
        "EVENT_STREAM": parts.event_stream.ref,
        "SPILL_URL": f"s3://{parts.records_bucket.ref}/spill",
        "REDIS_URL": parts.redis_url.ref,
        "REDIS_CHANNEL": parts.parameter("RedisChannel") or "program-updates",
        "TRUSTED_PROXIES": ",".join(proxies),
    }
    for name, parameter in (("LINK_KEYS", "LinkKeysSecretArn"), ("CONVERSION_KEYS", "ConversionKeysSecretArn")):
        if parts.parameter(parameter):
            expected[name] = parts.parameter(parameter)
        elif name in given:
            yield task.finding(f"the tracker is given {name}, and there is no such secret")
    for name in {"REDIS_URL", "LINK_KEYS", "CONVERSION_KEYS"} & (set(given) - secrets):
        yield task.finding(f"the tracker is given {name} in plain text")
    yield from _told(task, "the tracker", given, expected)
    yield from _redis_url(parts, parts.redis_url, parts.redis_url.get("SecretString"), "tracker", "TrackerPassword")
    for container, logs in (("tracker", parts.tracker_logs), ("metrics-agent", parts.tracker_logs)):
        yield from _container_logs(parts, task, container, logs)
    config = str(environment(parts.container(task, "metrics-agent"))[0].get("AOT_CONFIG_CONTENT"))
    if not re.search(rf"log_group_name: {re.escape(parts.metric_logs.ref)}\s", config):
        yield task.finding("the metrics agent writes to another log group")
    yield from _same(parts.service, "TaskDefinition", task.ref, "the trackers' task")
    yield from _same(parts.service, "Cluster", parts.cluster.ref, "the trackers' cluster")
    if parts.service.get("NetworkConfiguration.AwsvpcConfiguration.AssignPublicIp") != "DISABLED":
        yield parts.service.finding("gives tasks public addresses")
    if truth(parts.service.get("EnableExecuteCommand")):
        yield parts.service.finding("lets people into tasks, which needs permissions that no flow has")
    image = parts.parameter("TrackerImage")
    if tracker.get("Image") != image:
        yield task.finding("the tracker's container does not run the tracker's image")
    if parts.container(task, "metrics-agent").get("Image") != parts.parameter("AgentImage"):
        yield task.finding("the metrics agent's container does not run its image")


def _fargate(parts):
    """Tasks run on Fargate, each with a network interface of its own that has the group."""
    for task in (parts.task, parts.operator_task):
        yield from _same(task, "NetworkMode", "awsvpc", "awsvpc, which gives a task its own interface")
        yield from _same(task, "RequiresCompatibilities", ["FARGATE"], "Fargate")
        yield from _same(task, "RuntimePlatform.CpuArchitecture", parts.parameter("TrackerArchitecture") or "ARM64",
                         "that of the image")
    yield from _same(parts.service, "LaunchType", "FARGATE", "Fargate")
    for service in parts.system.of_type("AWS::ECS::Service"):
        if service is not parts.service:
            yield service.finding("is a service that no flow needs")


def _container_logs(parts, task, name, logs):
    options = parts.container(task, name).get("LogConfiguration", {})
    settings = options.get("Options") or {}
    if options.get("LogDriver") != "awslogs" or settings.get("awslogs-group") != logs.ref \
            or settings.get("awslogs-region") != parts.region:
        yield task.finding(f"{name} does not log to {logs.name}")


def _redis_url(parts, resource, url, user, secret):
    """A URL has the user, its secret's password and the primary's address, over TLS."""
    password = parts.system.named(secret)
    address = parts.redis.identity.attributes["PrimaryEndPoint.Address"]
    version = parts.parameter(f"{secret}Version")
    resolve = f"secretsmanager:{password.ref if password else '-'}:SecretString:password"
    resolve = "{{resolve:" + resolve + (f"::{version}" if version else "") + "}}"
    if url != f"rediss://{user}:{resolve}@{address}:{connections.REDIS_PORT}":
        yield resource.finding(f"REDIS_URL of {user} does not lead to Redis by TLS with the password of {secret}")


def _operator(parts):
    """The task of an operator's command has the operator's user of Redis, and nothing else."""
    task, url = parts.operator_task, parts.operator_redis_url
    container = parts.container(task, "core-data")
    yield from _told(task, "core-data", environment(container)[0], {
        "AWS_REGION": parts.region, "REDIS_URL": url.ref,
        "REDIS_CHANNEL": parts.parameter("RedisChannel") or "program-updates"})
    if not any(isinstance(one, dict) and one.get("Name") == "REDIS_URL" for one in listed(container.get("Secrets"))):
        yield task.finding("core-data is given REDIS_URL in plain text")
    yield from _redis_url(parts, url, url.get("SecretString"), "operator", "OperatorPassword")
    yield from _container_logs(parts, task, "core-data", parts.operator_logs)
    if container.get("Image") != parts.parameter("TrackerImage"):
        yield task.finding("core-data's container does not run the image that has it")


def _functions(parts):
    failed = f"s3://{parts.records_bucket.ref}/failed-records"
    namespace = f"adtrack/{parts.parameter('Deployment')}"
    for function, logs, package, expected in (
        (parts.consumer, parts.consumer_logs, "ConsumerPackage", {"TABLE_NAME": parts.table_name}),
        (parts.updater, parts.updater_logs, "UpdaterPackage",
         {"REDIS_CHANNEL": parts.parameter("RedisChannel") or "program-updates"}),
    ):
        given = function.get("Environment.Variables") or {}
        yield from _told(function, "the function", given,
                         {"FAILED_RECORDS_URL": failed, "METRICS_NAMESPACE": namespace, **expected})
        yield from _same(function, "LoggingConfig.LogGroup", logs.ref, "its own log group")
        yield from _same(function, "Code.S3Bucket", parts.artifact_bucket.ref, "the bucket of packages")
        yield from _same(function, "Code.S3Key", parts.parameter(package), "its own package")
    if parts.consumer.get("VpcConfig"):
        yield parts.consumer.finding("is in the VPC, where nothing leads to the table")
    url = (parts.updater.get("Environment.Variables") or {}).get("REDIS_URL")
    yield from _redis_url(parts, parts.updater, url, "updater", "UpdaterPassword")


def _mappings(parts):
    for mapping, function, stream in ((parts.consumer_mapping, parts.consumer, parts.event_stream),
                                      (parts.updater_mapping, parts.updater, parts.core_data_stream)):
        if parts.system.called(mapping.get("FunctionName")) is not function:
            yield mapping.finding(f"does not call {function.name}")
        yield from _same(mapping, "EventSourceArn", stream.arn, f"that of {stream.name}")
        yield from _same(mapping, "DestinationConfig.OnFailure.Destination", parts.records_bucket.arn,
                         "the bucket of failed records")
        if mapping.get("Enabled") not in (None, True, "true"):
            yield mapping.finding("is disabled")
        if mapping.get("FilterCriteria"):
            yield mapping.finding("leaves records out")
    known = {parts.consumer_mapping.name, parts.updater_mapping.name}
    for mapping in parts.system.of_type("AWS::Lambda::EventSourceMapping"):
        if mapping.name not in known:
            yield mapping.finding("is a mapping that no flow needs")
    for subscription in parts.system.of_type("AWS::SNS::Subscription"):
        yield from _same(subscription, "TopicArn", parts.topic.ref, "the topic of alarms")
        yield from _same(subscription, "Endpoint", parts.parameter("AlarmEmail"), "the operator's address")


def _names_for_others(parts):
    """Parameters of Systems Manager hold what they are named after."""
    for parameter in parts.system.of_type("AWS::SSM::Parameter"):
        prefix, _, name = str(parameter.get("Name")).rpartition("/")
        if prefix != f"/adtrack/{parts.parameter('Deployment')}":
            yield parameter.finding(f"is in {prefix}, not in the deployment's folder")
        known = parts.system.outputs.get(name) or parts.parameter(name)
        if not known or parameter.get("Value") != known:
            yield parameter.finding(f"does not hold {name}")
