"""What is kept, for how long, and what brings it back: buckets, images, tables; and how secrets are made."""

import json
import re
from typing import NamedTuple

from .synth import number, truth


class Keeping(NamedTuple):
    """How a bucket keeps its objects."""

    prefixes: tuple
    # The parameter that says after how many days objects go; empty if they stay.
    days: str
    has_versions: bool
    reason: str


BUCKETS = {
    "ArtifactBucket": Keeping(("packages/",), "", True, "a package that runs may be years old"),
    "RecordsBucket": Keeping(("spill/", "failed-records/", "aws/lambda/"), "RecordsDays", True,
                             "a redriven record can be had back for a while"),
    "AccessLogBucket": Keeping(("AWSLogs/",), "AccessLogDays", False, "logs hold full client addresses"),
}
# An image that nothing names may still be pulled by a task that is being replaced.
LEAST_DAYS_OF_IMAGES = 7
SECRET = re.compile(r"\{\{resolve:secretsmanager:(arn:[^{}]+?):SecretString:(\w+)")


def judge(system):
    """Findings about buckets, repositories, tables and generated secrets."""
    for bucket in system.of_type("AWS::S3::Bucket"):
        yield from _bucket(system, bucket)
    for repository in system.of_type("AWS::ECR::Repository"):
        yield from _repository(repository)
    is_protected = truth(system.parameters.get("DeletionProtection", "true"))
    for table in system.of_type("AWS::DynamoDB::Table"):
        yield from _table(table, table.properties, "", is_protected)
    for table in system.of_type("AWS::DynamoDB::GlobalTable"):
        yield from _global_table(system, table, is_protected)
    yield from _secrets(system)


def _bucket(system, bucket):
    keeping = BUCKETS.get(bucket.name)
    if keeping is None:
        yield bucket.finding("is a bucket of which deploy/checks/model/storage.py does not say how long it keeps what")
        return
    status = bucket.get("VersioningConfiguration.Status")
    if keeping.has_versions and status != "Enabled":
        yield bucket.finding(f"VersioningConfiguration.Status is {status}, expected Enabled: {keeping.reason}")
    rules = [rule for rule in bucket.get("LifecycleConfiguration.Rules", []) if rule.get("Status") == "Enabled"]
    for prefix in keeping.prefixes:
        applied = [rule for rule in rules if _covers(rule, prefix)]
        yield from _expiry(system, bucket, keeping, prefix, applied)
        if keeping.has_versions and not any("NoncurrentVersionExpiration" in rule for rule in applied):
            yield bucket.finding(f"no enabled lifecycle rule ends old versions below {prefix}, which cost for ever")


def _covers(rule, prefix):
    is_narrow = set(rule) & {"Filter", "TagFilters", "ObjectSizeGreaterThan", "ObjectSizeLessThan"}
    return not is_narrow and prefix.startswith(str(rule.get("Prefix", "")))


def _expiry(system, bucket, keeping, prefix, rules):
    days = {number(rule["ExpirationInDays"]) for rule in rules if "ExpirationInDays" in rule}
    if any("ExpirationDate" in rule for rule in rules):
        yield bucket.finding(f"objects below {prefix} go on a date, expected an age")
    default = _default(system, bucket.file, keeping.days)
    expected = {number(system.parameters.get(keeping.days, default))} if keeping.days else set()
    if days != expected:
        shown = f"{keeping.days}, {next(iter(expected))}" if expected else "never"
        found = ", ".join(map(str, sorted(days, key=str))) or "no day: no enabled lifecycle rule applies"
        yield bucket.finding(f"objects below {prefix} expire after {found}; expected {shown}: {keeping.reason}")


def _default(system, file, parameter):
    return (system.templates[file].get("Parameters") or {}).get(parameter, {}).get("Default")


def _repository(repository):
    try:
        rules = json.loads(repository.get("LifecyclePolicy.LifecyclePolicyText", ""))["rules"]
        selections = [rule["selection"] for rule in rules]
    except (ValueError, KeyError, TypeError):
        yield repository.finding("has no lifecycle policy that can be read: images that nothing names stay for ever")
        return
    if not selections:
        yield repository.finding("its lifecycle policy has no rule: images that nothing names stay for ever")
    for selection in selections:
        if selection.get("tagStatus") != "untagged":
            yield repository.finding(f"its lifecycle policy expires images of tagStatus {selection.get('tagStatus')}, "
                                     "expected untagged: what runs, or rolls back, has a tag")
        if (selection.get("countType"), selection.get("countUnit")) != ("sinceImagePushed", "days") \
                or not (number(selection.get("countNumber")) or 0) >= LEAST_DAYS_OF_IMAGES:
            yield repository.finding(f"its lifecycle policy expires images by {selection.get('countType')} "
                                     f"{selection.get('countNumber')}, expected at least {LEAST_DAYS_OF_IMAGES} days")


def _table(table, place, where, is_protected):
    recovery = place.get("PointInTimeRecoverySpecification") or {}
    if not truth(recovery.get("PointInTimeRecoveryEnabled")):
        yield table.finding(f"{where}has no point-in-time recovery: what an error deletes is gone")
    if truth(place.get("DeletionProtectionEnabled")) != is_protected:
        yield table.finding(f"{where}DeletionProtectionEnabled is {place.get('DeletionProtectionEnabled')}, "
                            f"expected DeletionProtection, {is_protected}")


def _global_table(system, table, is_protected):
    regions = []
    for replica in table.get("Replicas", []):
        region = replica.get("Region")
        regions.append(region)
        yield from _table(table, replica, f"its replica in {region or 'no region'} ", is_protected)
    wanted = [system.scenario.region, *filter(None, (
        system.parameters.get(f"{which}Region") for which in ("Second", "Third", "Fourth")))]
    if sorted(map(str, regions)) != sorted(wanted):
        yield table.finding(f"its replicas are in {', '.join(str(region or 'no region') for region in regions)}; "
                            f"expected {', '.join(wanted)}")


def _secrets(system):
    readers = {}
    for resource in system.resources:
        for arn, key in SECRET.findall(json.dumps(resource.properties, default=str)):
            readers.setdefault(arn, {}).setdefault(key, resource)
    for secret in system.of_type("AWS::SecretsManager::Secret"):
        generated = secret.get("GenerateSecretString")
        if generated is None:
            continue
        if not truth(generated.get("ExcludePunctuation")):
            yield secret.finding(f"ExcludePunctuation is {generated.get('ExcludePunctuation')}, expected true: "
                                 "the password stands in a URL")
        for key, reader in readers.pop(secret.ref, {}).items():
            if key != generated.get("GenerateStringKey"):
                yield secret.finding(f"GenerateStringKey is {generated.get('GenerateStringKey')}, expected {key}, "
                                     f"which {reader.name} reads")
