"""A region's DNS records in a hosted zone of another account, which CloudFormation cannot change: latency
alias records, the same as those in global-routing.yaml.
"""

from botocore.exceptions import ClientError

from .cloudformation import ChangeError


class Records:
    """Creates and deletes the records of one region, with the permissions of the zone's role."""

    def __init__(self, aws, rollout, region):
        self._client = lambda: aws.as_role(rollout.hosted_zone_role_arn, "route53", rollout.home_region)
        self._zone = rollout.hosted_zone_id
        self._domain = rollout.tracking_domain
        self._identifier = f"{rollout.deployment}-{region.name}"
        self._region = region

    def put(self, outputs):
        """Creates or updates the records. `outputs` are those of the region's stacks."""
        dualstack = self._region.parameters.get("IpAddressType") == "dualstack"
        types = ["A", "AAAA"] if dualstack else ["A"]
        wanted = [self._record(kind, outputs) for kind in types]
        stale = [one for one in self._present() if one["Type"] not in types]
        self._change([("UPSERT", one) for one in wanted] + [("DELETE", one) for one in stale])

    def remove(self):
        """Deletes the records; returns whether there were any."""
        present = self._present()
        if present:
            self._change([("DELETE", one) for one in present])
        return bool(present)

    def _record(self, kind, outputs):
        return {
            "Name": f"{self._domain}.",
            "Type": kind,
            "SetIdentifier": self._identifier,
            "Region": self._region.name,
            "HealthCheckId": outputs["HealthCheckId"],
            "AliasTarget": {
                "HostedZoneId": outputs["LoadBalancerZoneId"],
                "DNSName": outputs["LoadBalancerDnsName"],
                "EvaluateTargetHealth": True,
            },
        }

    def _present(self):
        pages = self._client().get_paginator("list_resource_record_sets").paginate(
            HostedZoneId=self._zone, StartRecordName=self._domain, StartRecordType="A")
        found = []
        for page in pages:
            for record in page["ResourceRecordSets"]:
                if record["Name"].rstrip(".") != self._domain:
                    return found
                if record.get("SetIdentifier") == self._identifier:
                    found.append(record)
        return found

    def _change(self, changes):
        batch = {"Changes": [{"Action": action, "ResourceRecordSet": record} for action, record in changes]}
        try:
            self._client().change_resource_record_sets(HostedZoneId=self._zone, ChangeBatch=batch)
        except ClientError as error:
            raise ChangeError(f"the records of {self._domain} in zone {self._zone}: {error}") from error
