"""Changes of the source that the templates do not follow are noticed."""

import pytest
import rules
import rules_source  # noqa: F401 - adds its rules
import source
from adtrack_deploy import template

CACHED = (source.aws_calls, source.variables, source.tracker_metrics, source.function_metrics)
FAULTS = [
    ("a new call", "kinesis-consumer/src/store.rs", "", "\nself.client.delete_item().send();",
     "calls_are_reviewed"),
    ("a call is gone", "kinesis-consumer/src/store.rs", ".batch_write_item()", "",
     "calls_are_reviewed"),
    ("a new service", "tracker/src/delivery/kinesis.rs", "", "\nuse aws_sdk_firehose::Client;",
     "calls_are_reviewed"),
    ("the store is read", "deploy/runtime/src/lambda/failure_store.rs", "", "\nself.store.list(None);",
     "calls_are_reviewed"),
    ("a new setting", "tracker/src/config.rs", "",
     '\n#[arg(long, env, default_value = "1, 2", value_parser = integer(1, 2))]\npub colour: u8,',
     "variables_are_read"),
    ("a setting with a name of its own", "kinesis-consumer/src/config.rs", "",
     '\n#[arg(long, env = "OTHER_NAME")]\npub colour: u8,', "variables_are_read"),
    ("a setting is gone", "kinesis-consumer/src/config.rs", "pub event_ttl_days", "pub days_of_life",
     "variables_are_read"),
    ("the task is not protected any more", "tracker/src/task_protection.rs", "task-protection/v1/state", "",
     "calls_are_reviewed"),
    ("a metric has another name", "deploy/runtime/src/lambda/emf.rs", '"Name": "DifferingRepeats"',
     '"Name": "Repeats"', "metrics_are_emitted"),
    ("settings in another file", "redis-updater/src/store.rs", "", "\n#[arg(long, env)]\npub colour: u8,",
     "variables_are_read"),
]


@pytest.fixture
def changed(monkeypatch):
    """Reads the source with a change; what was read before is forgotten, before and after."""
    original = list(source.sources())

    def change(path, old, new):
        def sources():
            for name, text in original:
                yield name, (text.replace(old, new) if old else text + new) if name == path else text
        assert any(name == path and old in text for name, text in original)
        monkeypatch.setattr(source, "sources", sources)
        for function in CACHED:
            function.cache_clear()
    yield change
    for function in CACHED:
        function.cache_clear()


@pytest.mark.parametrize(("path", "old", "new", "rule"), [fault[1:] for fault in FAULTS],
                         ids=[fault[0] for fault in FAULTS])
def test_it_is_noticed(changed, path, old, new, rule):
    templates = template.load_all()
    assert not list(rules.RULES[rule](templates))
    changed(path, old, new)
    assert list(rules.RULES[rule](templates))
