"""What Redis' users may do, against what the programs send.

Each user's access string is loaded into a real Valkey, which is asked for every command that it has
(`ACL DRYRUN`) whether the user may send it. What a program sends is recorded in `redis-commands.json`;
deploy/local/tests/redis_commands.rs holds that true. Allowed has to equal sent, in both directions: for
commands with their subcommands, for keys, and for channels.
"""

import functools
import itertools
import json
import os
import re
from pathlib import Path

from . import scenarios, synth
from .valkey import ValkeyError, connection

SENT = Path(__file__).with_name("redis-commands.json")
# Names of redis-commands.json: of containers, and of the function that has a REDIS_URL.
# User → what the parameters and the secret of its password begin with.
ROTATED = {"tracker": "Tracker", "updater": "Updater", "operator": "Operator"}
FUNCTION, CONTAINERS = "redis-updater", ("tracker", "core-data")
URL = re.compile(r"rediss?://(?P<user>[^:@/]+):(?P<password>\{\{resolve:secretsmanager:[^}]+\}\})"
                 r"@(?P<host>[^:@/]+):(?P<port>\d+)")
REFUSED = "no permissions to run"


@functools.cache
def sent():
    """What each program sends: commands, patterns of keys, channels."""
    return json.loads(SENT.read_text())


def judge(system):
    """Findings about Redis' users, their group, and who uses them."""
    users = {user.get("UserName"): user for user in system.of_type("AWS::ElastiCache::User")}
    groups = system.of_type("AWS::ElastiCache::ReplicationGroup")
    if not groups:
        return
    used = {}
    for program in (FUNCTION, *CONTAINERS):
        holder, url, channel = _access_of(system, program)
        if holder is None:
            yield groups[0].finding(f"{program} has no REDIS_URL")
            continue
        found = URL.fullmatch(url or "")
        if not found:
            yield holder.finding(f"REDIS_URL of {program} is not rediss://USER:SECRET@HOST:PORT")
            continue
        if not url.startswith("rediss:"):
            yield holder.finding(f"REDIS_URL of {program} is redis://, expected rediss://: Redis takes TLS alone")
        user = users.get(found["user"])
        if user is None:
            yield holder.finding(f"{program} is the user {found['user']}, which Redis does not have")
            continue
        if found["user"] in used:
            yield user.finding("is the user of more than one program")
        used[found["user"]] = program
        yield from _reaches(holder, program, found, groups[0])
        yield from _passwords(user, program, found["password"])
        yield from _allowed(user, program, sent()[program] | {"channels": [channel]})
    for name, user in users.items():
        if name not in used:
            yield from _nobody(system, user)
        if user.get("Engine") != groups[0].get("Engine"):
            yield user.finding("is of another engine than Redis")
    yield from _groups(system, users, used, groups)
    yield from _names(system, [*users.values(), *system.of_type("AWS::ElastiCache::UserGroup")])


def _access_of(system, program):
    """Who holds a program's REDIS_URL, the URL, and the channel that it is given."""
    if program == FUNCTION:
        for function in system.of_type("AWS::Lambda::Function"):
            variables = function.get("Environment.Variables", {})
            if "REDIS_URL" in variables:
                return function, variables["REDIS_URL"], variables.get("REDIS_CHANNEL")
        return None, None, None
    for task in system.of_type("AWS::ECS::TaskDefinition"):
        for container in task.get("ContainerDefinitions", []):
            secrets = {secret.get("Name"): secret.get("ValueFrom") for secret in container.get("Secrets", [])}
            if container.get("Name") == program and "REDIS_URL" in secrets:
                environment = {entry.get("Name"): entry.get("Value")
                               for entry in container.get("Environment", [])}
                secret = system.called(secrets["REDIS_URL"])
                url = secret.get("SecretString") if secret else None
                return secret or task, url, environment.get("REDIS_CHANNEL")
    return None, None, None


def _reaches(holder, program, url, group):
    """The URL leads to the primary, whichever node that is."""
    if url["host"] != group.identity.attributes.get("PrimaryEndPoint.Address"):
        yield holder.finding(f"{program} is led to {url['host']}, which is not Redis' primary")
    if url["port"] != str(group.get("Port", 6379)):
        yield holder.finding(f"{program} is led to the port {url['port']}, on which Redis does not listen")


def _passwords(user, program, password):
    """The password that the program sends is one of the user's."""
    mode = user.get("AuthenticationMode", {})
    passwords = mode.get("Passwords", [])
    if mode.get("Type") != "password" or not 1 <= len(passwords) <= 2:
        yield user.finding("has to have one or two passwords")
    if password not in passwords:
        yield user.finding(f"does not have the password that {program} sends")
    if user.get("NoPasswordRequired") or user.get("Passwords"):
        yield user.finding("has passwords outside of AuthenticationMode")


def static_findings(templates):
    """Users take the password of their own secret: the current one or the version that is asked for, and,
    while it is being replaced, the one before. Each parameter is tried alone."""
    for name, body in templates.items():
        if any(resource.get("Type") == "AWS::ElastiCache::User" for resource in body["Resources"].values()
               if isinstance(resource, dict)):
            yield from _rotations(name, json.dumps(body, sort_keys=True, default=str))


@functools.lru_cache(64)
def _rotations(name, text):
    body = json.loads(text)
    found = []
    for changed in (None, *itertools.product(ROTATED.values(), ("Version", "Before"))):
        given = {f"{changed[0]}Password{changed[1]}": "v1"} if changed else {}
        system = synth.system({name: body}, synth.Scenario(
            "a rotation", scenarios.PRODUCTION.parameters | {"KeyArn": "arn:aws:kms:key"} | given))
        users = {user.get("UserName"): user for user in system.of_type("AWS::ElastiCache::User")}
        for user, prefix in ROTATED.items():
            secret = system.named(f"{prefix}Password")
            if user in users and secret is not None:
                versions = [given.get(f"{prefix}PasswordVersion", ""), given.get(f"{prefix}PasswordBefore")]
                wanted = [_reference(secret.ref, version) for version in versions if version is not None]
                if users[user].get("AuthenticationMode.Passwords") != wanted:
                    found.append(users[user].finding(
                        f"takes other passwords than that of {secret.name} if {' '.join(given) or 'nothing'} is set"))
    return tuple(found)


def _reference(secret, version):
    """How a template names a secret's password, of a version or the current one."""
    behind = f"::{version}" if version else ""
    return f"{{{{resolve:secretsmanager:{secret}:SecretString:password{behind}}}}}"


def _allowed(user, program, expected):
    """Exactly what the program sends is allowed."""
    access = _load(user)
    if isinstance(access, str):
        yield user.finding(access)
        return
    if access["on"] != ["on"]:
        yield user.finding(f"is not on, and {program} is to use it")
    commands = set(expected["commands"])
    for word in sorted(access["commands"] - commands):
        yield user.finding(f"may send the command {word}, which {program} does not send")
    for word in sorted(commands - access["commands"]):
        yield user.finding(f"may not send the command {word}, which {program} sends")
    channels = {f"&{channel}" for channel in expected["channels"]}
    for name, allowed, wanted in (("keys", access["keys"], set(expected["keys"])),
                                  ("channels", access["channels"], channels)):
        if allowed != wanted:
            yield user.finding(f"its patterns of {name} are {' '.join(sorted(allowed)) or 'none'}, expected "
                               f"{' '.join(sorted(wanted)) or 'none'}: what {program} uses")
    if access["selectors"]:
        yield user.finding("has selectors, which nothing needs")
    for word in sorted(access["without effect"]):
        yield user.finding(f"{word} has no effect: every client may send it")


def _nobody(system, user):
    """A user of no program: it can do nothing. ElastiCache demands one that is called default."""
    access = _load(user)
    if isinstance(access, str):
        yield user.finding(access)
        return
    if user.get("UserName") != "default":
        yield user.finding("is a user of no program")
    if access["on"] != ["off"]:
        yield user.finding("is a user of no program, and is not off")
    for kind in ("commands", "keys", "channels", "selectors"):
        if access[kind]:
            yield user.finding(f"is a user of no program, and has {kind}: {' '.join(sorted(access[kind]))[:80]}")
    if access["without effect"]:
        yield user.finding("is a user of no program, and has commands")
    mode = user.get("AuthenticationMode", {})
    if mode.get("Type") != "password" or not mode.get("Passwords") or user.get("NoPasswordRequired"):
        yield user.finding("is a user without a password")
    secrets = [_reference(secret.ref, "") for secret in system.of_type("AWS::SecretsManager::Secret")]
    for password in mode.get("Passwords", []):
        if password not in secrets:
            yield user.finding("has a password that is not a secret")


def _names(system, resources):
    """Ids are the deployment's own in a region, and form as ElastiCache demands."""
    deployment = re.escape(system.parameters.get("Deployment", ""))
    for resource in resources:
        for key in ("UserId", "UserGroupId"):
            name = resource.get(key, "" if resource.type.endswith(key.removesuffix("Id")) else None)
            if name is not None and not re.fullmatch(rf"{deployment}(-[a-z]+)+", str(name)):
                yield resource.finding(f"{key} {name!r} does not begin with the deployment's name")


def _groups(system, users, used, groups):
    """The group of users holds them all, `default` too, and Redis uses it."""
    members = {group.ref: group for group in system.of_type("AWS::ElastiCache::UserGroup")}
    for redis in groups:
        named = redis.get("UserGroupIds", [])
        if len(named) != 1 or named[0] not in members:
            yield redis.finding("has to have one group of users, which is there")
    wanted = {user.ref for name, user in users.items() if name == "default" or name in used}
    if "default" not in users:
        yield groups[0].finding("has no user default: ElastiCache's own would take any client")
    for group in members.values():
        ids = group.get("UserIds", [])
        for user in sorted(wanted ^ set(ids)):
            yield group.finding(f"{'has' if user in ids else 'lacks'} the user {user}")
        if group.get("Engine") != groups[0].get("Engine"):
            yield group.finding("is of another engine than Redis")
        if not any(group.ref in redis.get("UserGroupIds", []) for redis in groups):
            yield group.finding("is the group of no Redis")


def _load(user):
    """What a user's access string allows; a text if Valkey refuses the string."""
    text = user.get("AccessString")
    return _access(text) if isinstance(text, str) else "has no AccessString"


@functools.lru_cache(4096)
def _access(text):
    valkey = connection()
    words, name = text.split(), f"judged-{os.getpid()}"
    try:
        # What a new user may do before its string says so is up to the server (acl-pubsub-default):
        # the string has to take it away.
        valkey.call("ACL", "SETUSER", name, "reset", "+@all", "&*", *words)
    except ValkeyError as error:
        return f"AccessString is refused: {error}"
    got = valkey.call("ACL", "GETUSER", name)
    user = dict(zip(got[::2], got[1::2], strict=True))
    if "nopass" in user["flags"]:
        return "AccessString lets clients in without a password"
    if user["passwords"]:
        return "AccessString holds a password"
    names = [command for command, _, _ in _commands()]
    responses = valkey.call_each([
        ("ACL", "DRYRUN", name, *command.split("|"), *["1"] * arguments) for command, arguments, _ in _commands()])
    always = {command for command, _, anybody in _commands() if anybody}
    allowed = {command for command, response in zip(names, responses, strict=True) if REFUSED not in str(response)}
    # A word for a container of subcommands allows each of them.
    containers = {command.split("|")[0] for command in names if "|" in command}
    return {
        "on": [word for word in words if word in ("on", "off")],
        "commands": allowed - always - containers,
        "keys": set(user["keys"].split()),
        "channels": set(user["channels"].split()),
        "selectors": [str(selector) for selector in user["selectors"]],
        "without effect": {word for word in words if word[0] in "+-" and word[1:].lower() in always},
    }


@functools.cache
def _commands():
    """Every command and subcommand: its name, how many arguments it takes at least, and whether every
    client may send it."""
    found = []

    def add(entry, arguments_in_name):
        name, arity, flags = entry[0], abs(entry[1]), entry[2]
        found.append((name, max(0, arity - arguments_in_name), "no_auth" in flags))
        for sub in entry[9] if len(entry) > 9 else []:
            add(sub, 2)

    for entry in connection().call("COMMAND"):
        add(entry, 1)
    return tuple(found)
