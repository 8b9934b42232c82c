"""The deployments that are judged. Together they reach every condition of the templates, on both sides."""

from adtrack_deploy.stacks import EXISTING, Layout

from .synth import Scenario

ACCOUNT, REGION = "111122223333", "eu-west-1"


def _arn(service, resource):
    return f"arn:aws:{service}:{REGION}:{ACCOUNT}:{resource}"


# What `deploy` finds out or builds.
GIVEN = {
    "Deployment": "adtrack",
    "S3PrefixListId": "pl-6da54004",
    "ConsumerPackage": "packages/kinesis-consumer-0123456789abcdef.zip",
    "UpdaterPackage": "packages/redis-updater-0123456789abcdef.zip",
    "TrackerImage": f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/tracker:0123456789ab-arm64",
    "AgentImage": f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/agent:v0.48.0",
}
ZONES = {"Zone1": f"{REGION}a", "Zone2": f"{REGION}b", "Zone3": f"{REGION}c"}
DOMAIN = {"TrackingDomain": "t.example.com", "HostedZoneId": "Z0123456789ABC"}
CERTIFICATE = {"CertificateArn": _arn("acm", "certificate/11111111-2222-3333-4444-555555555555")}
NETWORK = {
    "VpcId": "vpc-0a1b2c3d",
    "PublicSubnetIds": "subnet-0a,subnet-0b,subnet-0c",
    "PrivateSubnetIds": "subnet-1a,subnet-1b,subnet-1c",
    "PrivateRouteTableIds": "rtb-0a,rtb-0b,rtb-0c",
    "NetworkCidr": "10.1.0.0/16",
}
GROUPS = {f"{name}GroupId": f"sg-0{number}" for number, name in enumerate(
    ("LoadBalancer", "Tasks", "Updater", "Redis", "Endpoints"))}
BALANCER = {
    "HttpsListenerArn": _arn("elasticloadbalancing", "listener/app/shared/1/2"),
    "HostNames": "t.example.com,u.example.com",
    "RulePriority": "42",
    "LoadBalancerGroupId": "sg-0f",
    "LoadBalancerDnsName": "shared-1.eu-west-1.elb.amazonaws.com",
    "LoadBalancerZoneId": "Z32O12XQLNTSW2",
    "LoadBalancerFullName": "app/shared/1",
}

PRODUCTION = Scenario("production", GIVEN | ZONES | DOMAIN | CERTIFICATE, Layout(routed=True))
TRIAL = Scenario("trial", GIVEN | {
    "Zone1": ZONES["Zone1"], "Zone2": ZONES["Zone2"],
    "InsecurePlainHttp": "true",
    "VpcEndpoints": "one-zone",
    "RedisNodes": "1", "RedisFailover": "false",
    "RedisNodeType": "cache.t4g.micro",
    "MinTasks": "1", "MaxTasks": "2",
    "DeletionProtection": "false",
})
EVERY_OPTION = Scenario("every option", GIVEN | ZONES | DOMAIN | {
    "VpcCidr": "10.64.0.0/19",
    "IpAddressType": "dualstack",
    "CreateCertificate": "true",
    "ByProgramIndex": "true",
    "IndexBuckets": "16",
    "AccessLogs": "true",
    "WebFirewall": "true",
    "WebFirewallAction": "block",
    "CustomerCertificateArns": ",".join(_arn("acm", f"certificate/customer-{number}") for number in range(6)),
    "CookieMaxAgeDays": "365",
    "CookieDomain": "example.com",
    "TcfVendorId": "4711",
    "DefaultFallbackUrl": "https://example.com/",
    "LinkKeysSecretArn": _arn("secretsmanager", "secret:links-AbCdEf"),
    "ConversionKeysSecretArn": _arn("secretsmanager", "secret:conversions-AbCdEf"),
    "TrackerPasswordVersion": "v2", "TrackerPasswordBefore": "v1",
    "UpdaterPasswordVersion": "v2", "UpdaterPasswordBefore": "v1",
    "OperatorPasswordVersion": "v2", "OperatorPasswordBefore": "v1",
    "StreamMode": "PROVISIONED",
    "OrganizationId": "o-0123456789",
    "AlarmEmail": "alarms@example.com",
    "TrustedProxies": "192.0.2.0/24",
    "RateLimit": "100", "RateLimitExempt": "198.51.100.0/24",
    "PermissionsBoundaryArn": f"arn:aws:iam::{ACCOUNT}:policy/boundary",
    "RolePath": "/corporate/",
    "RedisChannel": "other-channel",
}, Layout(routed=True))
EXISTING_NETWORK = Scenario("existing network", GIVEN | NETWORK | DOMAIN | CERTIFICATE | {
    "VpcEndpoints": "none", "AwsServicesCidr": "0.0.0.0/0"}, Layout(EXISTING, routed=True))
EXISTING_BALANCER = Scenario("existing load balancer", GIVEN | NETWORK | BALANCER | DOMAIN,
                             Layout(EXISTING, load_balancer=EXISTING, routed=True))
EXISTING_ALL = Scenario("existing network, groups and load balancer",
                        GIVEN | NETWORK | GROUPS | BALANCER | DOMAIN,
                        Layout(EXISTING, EXISTING, EXISTING, routed=True))
GLOBAL_TABLE = Scenario("global table", GIVEN | ZONES | DOMAIN | CERTIFICATE | {
    "SecondRegion": "us-east-1", "ThirdRegion": "ap-southeast-1", "FourthRegion": "ap-southeast-2",
    "ByProgramIndex": "true", "IndexBuckets": "16"}, Layout(global_table=True, routed=True))

ALL = (PRODUCTION, TRIAL, EVERY_OPTION, EXISTING_NETWORK, EXISTING_BALANCER, EXISTING_ALL, GLOBAL_TABLE)
