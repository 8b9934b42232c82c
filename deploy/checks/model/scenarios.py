"""The deployments that are judged. Together they reach every condition of the templates, on both sides."""

import json

from adtrack_deploy import regions
from adtrack_deploy.stacks import EXISTING, Layout

from .synth import Scenario

TRIAL_FILE = regions.FILE.with_name("regions.trial.json")
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
# Two zones, no domain, and what regions.trial.json sets.
TRIAL = Scenario("trial", GIVEN | {"Zone1": ZONES["Zone1"], "Zone2": ZONES["Zone2"], "DeletionProtection": "false"}
                 | {name: str(value) for name, value in json.loads(TRIAL_FILE.read_text())["parameters"].items()})
# What an operator may add. In the mixed scenarios each is on by the bits of its place (from 1), so that no
# two conditions hold in the same ones: a condition in the place of another shows.
OPTIONS = (
    {"AccessLogs": "true"},
    {"CreateCertificate": "true", "CertificateArn": ""},
    {"RateLimit": "100", "RateLimitExempt": "198.51.100.0/24"},
    {"ByProgramIndex": "true", "IndexBuckets": "16"},
    {"RateLimit": "100"},
    {"IpAddressType": "dualstack"},
    {"WebFirewall": "true"},
    {"WebFirewallAction": "block"},
    {"CookieDomain": "example.com", "CookieMaxAgeDays": "365"},
    {"TcfVendorId": "4711"},
    {"DefaultFallbackUrl": "https://example.com/"},
    {"LinkKeysSecretArn": _arn("secretsmanager", "secret:links-AbCdEf")},
    {"ConversionKeysSecretArn": _arn("secretsmanager", "secret:conversions-AbCdEf")},
    {"TrackerPasswordVersion": "v2"},
    {"TrackerPasswordBefore": "v1"},
    {"UpdaterPasswordVersion": "v2"},
    {"UpdaterPasswordBefore": "v1"},
    {"OperatorPasswordVersion": "v2"},
    {"OperatorPasswordBefore": "v1"},
    {"StreamMode": "PROVISIONED"},
    {"OrganizationId": "o-0123456789"},
    {"AlarmEmail": "alarms@example.com"},
    {"TrustedProxies": "192.0.2.0/24"},
    {"PermissionsBoundaryArn": f"arn:aws:iam::{ACCOUNT}:policy/boundary"},
    {"RolePath": "/corporate/", "RedisChannel": "other-channel"},
    {"Zone3": ""},
    {"VpcEndpoints": "one-zone"},
    {"DeletionProtection": "false"},
)
BITS = len(OPTIONS).bit_length()


def _customers(number):
    """That many certificates of customers' domains."""
    return {"CustomerCertificateArns": ",".join(
        _arn("acm", f"certificate/customer-{one}") for one in range(number))}


def _mixed(name, wanted, customers):
    chosen = {key: value for place, option in enumerate(OPTIONS, 1) if wanted(place)
              for key, value in option.items()}
    return Scenario(name, PRODUCTION.parameters | _customers(customers) | chosen, PRODUCTION.layout)


# All that goes together with every other option; without a zone, an endpoint and protection there is less.
LESS = 3
EVERY_OPTION = _mixed("every option", lambda place: place <= len(OPTIONS) - LESS, 6)
MIXED = tuple(_mixed(f"mixed options {bit + 1}", lambda place, bit=bit: place >> bit & 1, bit + 1)
              for bit in range(BITS))
EXISTING_NETWORK = Scenario("existing network", GIVEN | NETWORK | DOMAIN | CERTIFICATE | {
    "VpcEndpoints": "none", "AwsServicesCidr": "0.0.0.0/0"}, Layout(EXISTING, routed=True))
# Two nodes; others have one or three.
EXISTING_BALANCER = Scenario("existing load balancer", GIVEN | NETWORK | BALANCER | DOMAIN | {"RedisNodes": "2"},
                             Layout(EXISTING, load_balancer=EXISTING, routed=True))
EXISTING_ALL = Scenario("existing network, groups and load balancer",
                        GIVEN | NETWORK | GROUPS | BALANCER | DOMAIN,
                        Layout(EXISTING, EXISTING, EXISTING, routed=True))
GLOBAL_TABLE = Scenario("global table", GIVEN | ZONES | DOMAIN | CERTIFICATE | {
    "SecondRegion": "us-east-1", "ThirdRegion": "ap-southeast-1", "FourthRegion": "ap-southeast-2",
    "ByProgramIndex": "true", "IndexBuckets": "16"}, Layout(global_table=True, routed=True))

ALL = (PRODUCTION, TRIAL, EVERY_OPTION, EXISTING_NETWORK, EXISTING_BALANCER, EXISTING_ALL, GLOBAL_TABLE, *MIXED)
