"""Redis' users: Valkey itself says what an access string allows."""

import copy

import pytest

from model import acl, scenarios, synth


@pytest.fixture(scope="module")
def templates():
    return synth.load()[0]


def judged(templates, user, change):
    changed = copy.deepcopy(templates)
    properties = changed["data-redis"]["Resources"][user]["Properties"]
    text = properties["AccessString"]
    if isinstance(text, dict):
        text["Fn::Sub"] = change(text["Fn::Sub"])
    else:
        properties["AccessString"] = change(text)
    return [str(finding) for finding in acl.judge(synth.system(changed, scenarios.PRODUCTION))]


def test_users_may_do_what_their_programs_send(templates):
    assert judged(templates, "TrackerUser", str) == []


@pytest.mark.parametrize(("user", "word", "found"), [
    ("TrackerUser", "+hget", "may not send the command hget"),
    ("TrackerUser", "&${RedisChannel}", "its patterns of channels are"),
    ("TrackerUser", "%R~program:*", "its patterns of keys are"),
    ("TrackerUser", "-@all", "may send the command flushall"),
    ("TrackerUser", "resetchannels", "is refused"),
    ("TrackerUser", "on", "is not on"),
    ("UpdaterUser", "+script|load", "may not send the command script|load"),
    ("DefaultUser", "off", "is not off"),
])
def test_a_word_that_lacks_is_found(templates, user, word, found):
    findings = judged(templates, user, lambda text: " ".join(part for part in text.split() if part != word))

    assert any(found in finding for finding in findings)


@pytest.mark.parametrize("word", ["+flushall", "+@write", "+config|get", "~*", "&other", "nopass", "+hello", ">secret",
                                  "+nonsense", "allkeys", "(+get ~other:*)"])
@pytest.mark.parametrize("user", ["TrackerUser", "DefaultUser"])
def test_a_word_too_many_is_found(templates, user, word):
    assert judged(templates, user, lambda text: f"{text} {word}")
