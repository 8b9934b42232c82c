"""IAM's decisions, as the IAM User Guide describes them."""

import pytest

from model.policy import PolicyError, Principal, Request, conditions_hold, decide, identity_statements, matches

ACCOUNT, OTHER = "111122223333", "444455556666"
ROLE = Principal("role", f"arn:aws:iam::{ACCOUNT}:role/app", ACCOUNT)
STRANGER = Principal("role", f"arn:aws:iam::{OTHER}:role/app", OTHER)
CLOUDWATCH = Principal("service", "cloudwatch.amazonaws.com")
KEY = f"arn:aws:kms:eu-west-1:{ACCOUNT}:key/1"


def allow(action="s3:GetObject", resource="arn:aws:s3:::b/*", **more):
    return {"Effect": "Allow", "Action": action, "Resource": resource, **more}


def deny(action="s3:*", resource="*", **more):
    return {"Effect": "Deny", "Action": action, "Resource": resource, **more}


def ask(principal=ROLE, action="s3:GetObject", resource="arn:aws:s3:::b/k", **context):
    return Request(principal, action, resource, {key.replace("__", ":"): value for key, value in context.items()})


# "Determining whether a request is allowed or denied within an account".
@pytest.mark.parametrize(("identity", "resource", "boundary", "expected"), [
    ([], None, None, False),
    ([allow()], None, None, True),
    ([allow(), deny()], None, None, False),
    ([allow("s3:PutObject")], None, None, False),
    ([allow(resource="arn:aws:s3:::other/*")], None, None, False),
    ([], [allow(Principal="*")], None, True),
    ([], [allow(Principal={"AWS": ROLE.name})], None, True),
    ([], [allow(Principal={"AWS": f"arn:aws:iam::{ACCOUNT}:root"})], None, False),
    ([allow()], [deny(Principal="*")], None, False),
    ([allow()], None, [], False),
    ([allow()], None, [allow("s3:*", "*")], True),
    ([allow()], None, [allow("s3:*", "*"), deny()], False),
], ids=["nothing said", "identity", "explicit deny wins", "another action", "another resource",
        "resource, anybody", "resource, the role", "resource, its account alone", "denied by the resource",
        "outside the boundary", "within the boundary", "denied by the boundary"])
def test_decides_within_an_account(identity, resource, boundary, expected):
    assert decide(identity, resource, ask(), resource_account=ACCOUNT, boundary=boundary) is expected


@pytest.mark.parametrize(("identity", "resource", "expected"), [
    ([allow()], None, False),
    ([], [allow(Principal={"AWS": STRANGER.name})], False),
    ([allow()], [allow(Principal={"AWS": STRANGER.name})], True),
    ([allow()], [allow(Principal={"AWS": f"arn:aws:iam::{OTHER}:root"})], True),
], ids=["identity alone", "resource alone", "both", "both, by account"])
def test_needs_both_sides_across_accounts(identity, resource, expected):
    assert decide(identity, resource, ask(STRANGER), resource_account=ACCOUNT) is expected


@pytest.mark.parametrize(("identity", "policy", "expected"), [
    ([allow("kms:Decrypt", KEY)], [], False),
    ([allow("kms:Decrypt", KEY)], [allow("kms:*", "*", Principal={"AWS": f"arn:aws:iam::{ACCOUNT}:root"})], True),
    ([], [allow("kms:*", "*", Principal={"AWS": f"arn:aws:iam::{ACCOUNT}:root"})], False),
    ([], [allow("kms:Decrypt", "*", Principal={"AWS": ROLE.name})], True),
], ids=["key's policy is silent", "key's policy leaves it to IAM", "IAM is silent", "key's policy names the role"])
def test_key_policy_has_to_speak(identity, policy, expected):
    asked = ask(action="kms:Decrypt", resource=KEY)

    assert decide(identity, policy, asked, is_key=True, resource_account=ACCOUNT) is expected


def test_service_is_allowed_by_the_resource_alone():
    policy = [allow("sns:Publish", "*", Principal={"Service": CLOUDWATCH.name})]

    assert decide([], policy, ask(CLOUDWATCH, "sns:Publish", "t"))
    assert not decide([], policy, ask(Principal("service", "events.amazonaws.com"), "sns:Publish", "t"))


def test_not_action_and_not_resource_mean_all_others():
    statement = {"Effect": "Allow", "NotAction": "s3:Delete*", "NotResource": "arn:aws:s3:::secret/*"}

    assert decide([statement], None, ask())
    assert not decide([statement], None, ask(action="s3:DeleteObject"))
    assert not decide([statement], None, ask(resource="arn:aws:s3:::secret/k"))


# "IAM JSON policy elements: Condition operators".
@pytest.mark.parametrize(("condition", "context", "expected"), [
    ({"StringEquals": {"aws:SourceAccount": ACCOUNT}}, {"aws:sourceaccount": ACCOUNT}, True),
    ({"StringEquals": {"aws:SourceAccount": ACCOUNT}}, {"aws:sourceaccount": OTHER}, False),
    ({"StringEquals": {"aws:SourceAccount": ACCOUNT}}, {}, False),
    ({"StringEqualsIfExists": {"aws:SourceAccount": ACCOUNT}}, {}, True),
    ({"StringNotEquals": {"aws:SourceAccount": ACCOUNT}}, {}, True),
    ({"StringNotEquals": {"aws:SourceAccount": ACCOUNT}}, {"aws:sourceaccount": ACCOUNT}, False),
    ({"StringEquals": {"k": ["a", "b"]}}, {"k": "b"}, True),
    ({"StringNotEquals": {"k": ["a", "b"]}}, {"k": "b"}, False),
    ({"StringLike": {"k": "a*"}}, {"k": "abc"}, True),
    ({"StringEquals": {"k": "a*"}}, {"k": "abc"}, False),
    ({"ArnLike": {"k": "arn:aws:lambda:*:1:function:*"}}, {"k": "arn:aws:lambda:eu-west-1:1:function:f"}, True),
    ({"ArnLike": {"k": "arn:aws:lambda:*:1:function:*"}}, {"k": "arn:aws:lambda:eu-west-1:2:function:f"}, False),
    ({"ArnEquals": {"k": "arn:aws:s3:::*"}}, {"k": "arn:aws:sns:::t"}, False),
    ({"Bool": {"aws:SecureTransport": "false"}}, {"aws:securetransport": "false"}, True),
    ({"Bool": {"aws:SecureTransport": False}}, {"aws:securetransport": "true"}, False),
    ({"Null": {"k": "true"}}, {}, True),
    ({"Null": {"k": "true"}}, {"k": "v"}, False),
    ({"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}, {"aws:sourceip": "10.1.2.3"}, True),
    ({"NumericLessThan": {"k": "5"}}, {"k": "4"}, True),
    ({"ForAllValues:StringEquals": {"k": ["a", "b"]}}, {"k": ["a", "c"]}, False),
    ({"ForAnyValue:StringEquals": {"k": ["a", "b"]}}, {"k": ["a", "c"]}, True),
    ({"ForAllValues:StringEquals": {"k": "a"}}, {}, True),
    ({"StringEquals": {"k": "a"}, "Bool": {"b": "true"}}, {"k": "a", "b": "false"}, False),
])
def test_conditions_hold(condition, context, expected):
    assert conditions_hold(condition, context) is expected


@pytest.mark.parametrize(("pattern", "value", "expected"), [
    ("arn:aws:s3:::b/*", "arn:aws:s3:::b/a/b", True), ("arn:aws:s3:::b/*", "arn:aws:s3:::b", False),
    ("arn:aws:s3:::b?", "arn:aws:s3:::bc", True), ("arn:aws:s3:::B", "arn:aws:s3:::b", False), ("*", "anything", True),
])
def test_patterns_match_as_iam_matches(pattern, value, expected):
    assert matches(pattern, value) is expected


@pytest.mark.parametrize("document", [
    None, {}, {"Version": "2012-10-17", "Statement": [{"Effect": "allow", "Action": "*", "Resource": "*"}]},
    {"Version": "2008-10-17", "Statement": [allow()]},
    {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*"}]},
    {"Version": "2012-10-17", "Statement": [allow(resource="")]},
    {"Version": "2012-10-17", "Statement": [allow(Principal="*")]},
    {"Version": "2012-10-17", "Statement": [allow(Actions="s3:*")]},
])
def test_refuses_what_iam_refuses(document):
    with pytest.raises(PolicyError):
        identity_statements(document)


@pytest.mark.parametrize("condition", [{"StringEqual": {"k": "a"}}, {"StringEquals": "a"},
                                       {"StringEquals": {"k": "${aws:username}"}}])
def test_refuses_conditions_that_it_does_not_know(condition):
    with pytest.raises(PolicyError):
        conditions_hold(condition, {"k": "a"})
