"""The deployments that are judged. Together they reach every condition of the templates."""

from .synth import Scenario

ACCOUNT = "111122223333"
# What `deploy` finds out, builds or is told by an operator.
GIVEN = {
    "Deployment": "adtrack",
    "S3PrefixListId": "pl-6da54004",
    "ConsumerPackage": "packages/kinesis-consumer-0123456789abcdef.zip",
    "UpdaterPackage": "packages/redis-updater-0123456789abcdef.zip",
    "TrackerImage": f"{ACCOUNT}.dkr.ecr.eu-west-1.amazonaws.com/tracker:0123456789ab-arm64",
    "AgentImage": f"{ACCOUNT}.dkr.ecr.eu-west-1.amazonaws.com/agent:v0.48.0",
    "CertificateArn": f"arn:aws:acm:eu-west-1:{ACCOUNT}:certificate/11111111-2222-3333-4444-555555555555",
    "TrackingDomain": "t.example.com",
    "HostedZoneId": "Z0123456789ABC",
    "SecondRegion": "us-east-1",
}

PRODUCTION = Scenario("production", GIVEN)
EVERY_OPTION = Scenario("every option", GIVEN | {
    "ByProgramIndex": "true",
    "IndexBuckets": "16",
    "AccessLogs": "true",
    "WebFirewall": "true",
    "RateLimitAction": "block",
    "CustomerCertificateArns": ",".join(
        f"arn:aws:acm:eu-west-1:{ACCOUNT}:certificate/customer-{number}" for number in range(6)),
    "CookieMaxAgeDays": "365",
    "CookieDomain": "example.com",
    "TcfVendorId": "4711",
    "DefaultFallbackUrl": "https://example.com/",
    "LinkKeysSecretArn": f"arn:aws:secretsmanager:eu-west-1:{ACCOUNT}:secret:links-AbCdEf",
    "ConversionKeysSecretArn": f"arn:aws:secretsmanager:eu-west-1:{ACCOUNT}:secret:conversions-AbCdEf",
    "TrackerPasswordVersion": "v2",
    "TrackerPasswordBefore": "v1",
    "UpdaterPasswordVersion": "v2",
    "UpdaterPasswordBefore": "v1",
    "StreamMode": "PROVISIONED",
    "OrganizationId": "o-0123456789",
    "AlarmEmail": "alarms@example.com",
    "ThirdRegion": "ap-southeast-1",
    "FourthRegion": "ap-southeast-2",
})
GLOBAL_TABLE = Scenario("global table", GIVEN | {"GlobalTableName": "adtrack-global-table-GlobalTable"})

ALL = (PRODUCTION, EVERY_OPTION, GLOBAL_TABLE)
