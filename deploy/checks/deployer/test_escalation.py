"""Ways in which a deployer could get more than the roles give: each is denied, to each role.

The list is that of the known paths (role passed, role made, trust rewritten, code replaced, policy
attached), not of our statements: a statement that opens one of them fails here.
"""

import needs
import probes
import pytest
import roles

ROLES = {name: roles.statements(name) for name in ("PreviewRole", "DeployRole", "ServiceRole")}
ACCOUNT = roles.ACCOUNT
OWN_ROLE = f"arn:aws:iam::{ACCOUNT}:role/adtrack/adtrack-lambdas-ConsumerRole-1A2B"
FOREIGN_ROLE = f"arn:aws:iam::{ACCOUNT}:role/Administrator"
BOUNDARY = roles.VALUES["Boundary"]
ESCALATIONS = [
    ("iam:PassRole", FOREIGN_ROLE, {"iam:PassedToService": "lambda.amazonaws.com"}),
    ("iam:PassRole", OWN_ROLE, {"iam:PassedToService": "ec2.amazonaws.com"}),
    ("iam:PassRole", roles.VALUES["ServiceRoleArn"], {"iam:PassedToService": "lambda.amazonaws.com"}),
    ("iam:CreateRole", OWN_ROLE, {}),
    ("iam:CreateRole", OWN_ROLE, {"iam:PermissionsBoundary": f"arn:aws:iam::{ACCOUNT}:policy/Other"}),
    ("iam:CreateRole", FOREIGN_ROLE, {"iam:PermissionsBoundary": BOUNDARY}),
    ("iam:CreateRole", f"arn:aws:iam::{ACCOUNT}:role/adtrack-x", {"iam:PermissionsBoundary": BOUNDARY}),
    ("iam:PutRolePolicy", OWN_ROLE, {}),
    ("iam:PutRolePolicy", FOREIGN_ROLE, {"iam:PermissionsBoundary": BOUNDARY}),
    ("iam:AttachRolePolicy", OWN_ROLE, {"iam:PolicyARN": "arn:aws:iam::aws:policy/AdministratorAccess",
                                        "iam:PermissionsBoundary": BOUNDARY}),
    ("iam:DeleteRolePermissionsBoundary", OWN_ROLE, {"iam:PermissionsBoundary": BOUNDARY}),
    ("iam:PutRolePermissionsBoundary", OWN_ROLE, {"iam:PermissionsBoundary": BOUNDARY}),
    ("iam:UpdateAssumeRolePolicy", FOREIGN_ROLE, {}),
    ("iam:CreatePolicyVersion", BOUNDARY, {}),
    ("iam:SetDefaultPolicyVersion", BOUNDARY, {}),
    ("iam:UpdateAssumeRolePolicy", f"{roles.DEPLOYER}/adtrack-deploy", {}),
    ("iam:PutRolePolicy", f"{roles.DEPLOYER}/adtrack-cloudformation", {"iam:PermissionsBoundary": BOUNDARY}),
    ("iam:CreateUser", f"arn:aws:iam::{ACCOUNT}:user/x", {}),
    ("iam:CreateAccessKey", f"arn:aws:iam::{ACCOUNT}:user/x", {}),
    ("iam:AddUserToGroup", f"arn:aws:iam::{ACCOUNT}:group/admins", {}),
    ("iam:CreateServiceLinkedRole", f"arn:aws:iam::{ACCOUNT}:role/aws-service-role/organizations.amazonaws.com/x",
     {"iam:AWSServiceName": "organizations.amazonaws.com"}),
    ("iam:UpdateOpenIDConnectProviderThumbprint", roles.VALUES["Provider"], {}),
    ("sts:AssumeRole", FOREIGN_ROLE, {}),
    ("lambda:UpdateFunctionCode", probes.arn("lambda:function", foreign=True), {}),
    ("lambda:AddPermission", probes.arn("lambda:function"), {}),
    ("lambda:InvokeFunction", probes.arn("lambda:function"), {}),
    ("lambda:CreateEventSourceMapping", "*", {
        "lambda:FunctionArn": probes.arn("lambda:function", foreign=True)}),
    ("cloudformation:UpdateStack", f"arn:aws:cloudformation:eu-west-1:{ACCOUNT}:stack/adtrack-data/1", {}),
    ("cloudformation:ExecuteChangeSet", f"arn:aws:cloudformation:eu-west-1:{ACCOUNT}:stack/payroll/1", {}),
    ("cloudformation:SetStackPolicy", f"arn:aws:cloudformation:eu-west-1:{ACCOUNT}:stack/adtrack-data/1", {}),
    ("ec2:RunInstances", f"arn:aws:ec2:eu-west-1:{ACCOUNT}:instance/*", {}),
    ("ec2:CreateTags", probes.arn("ec2:vpc", foreign=True), {}),
    ("ec2:CreateTags", probes.arn("ec2:vpc", foreign=True), {"ec2:CreateAction": "RunInstances"}),
    ("ec2:AuthorizeSecurityGroupIngress", probes.arn("ec2:security-group", foreign=True), {}),
    ("elasticloadbalancing:AddTags", probes.arn("elasticloadbalancing:loadbalancer/app/"), {}),
    ("ecs:ExecuteCommand", probes.arn("ecs:cluster"), {}),
    ("ecs:RunTask", probes.arn("ecs:task-definition"), {}),
    ("kms:PutKeyPolicy", probes.arn("kms:key"), {}),
    ("kms:CreateGrant", probes.arn("kms:key"), {f"{probes.TAGS}deployment": "adtrack"}),
    ("secretsmanager:GetSecretValue", probes.arn("secretsmanager:Secret"), {}),
    ("secretsmanager:PutResourcePolicy", probes.arn("secretsmanager:Secret"), {}),
    ("s3:GetObject", "arn:aws:s3:::payroll-data/salaries.csv", {}),
    # A bucket of this name in somebody else's account.
    ("s3:PutObject", "arn:aws:s3:::adtrack-x/templates/x.json", {"aws:ResourceAccount": "999999999999"}),
    ("organizations:LeaveOrganization", "*", {}),
    ("account:CloseAccount", "*", {}),
]


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(("action", "resource", "keys"), ESCALATIONS)
def test_is_denied(role, action, resource, keys):
    context = probes.context("payroll", tagged=False) | keys
    assert not roles.allows(ROLES[role], action, resource, context)


@pytest.mark.parametrize("role", [*ROLES, "Boundary"])
@pytest.mark.parametrize("service", ["account", "cloudtrail", "guardduty", "iam", "kms", "organizations", "sso", "sts"])
def test_no_other_action_of_the_account_s_services_is_granted(role, service):
    statements = roles.statements(role)
    known = needs.REFERENCE.actions.get_actions_for_service(service)
    granted = {action for action in known
               if roles.allows(statements, f"{service}:{action}", "*", probes.context())}
    assert granted <= {"CreateKey", "ListKeys", "ListRoles"}
