"""Every rule holds; the templates fit together as stacks and as one."""

import pytest
import rules
import rules_source  # noqa: F401 - adds its rules
from adtrack_deploy import stacks, template
from layouts import layouts


@pytest.fixture(scope="session")
def templates():
    return template.load_all()


@pytest.mark.parametrize("name", sorted(rules.RULES))
def test_rule(name, templates):
    found = list(rules.RULES[name](templates))
    assert not found, "\n".join([rules.RULES[name].__doc__, *found])


def test_every_template_is_in_a_stack_of_some_layout(templates):
    used = {name for layout in layouts() for stack in stacks.of(layout) for name in stack.templates}

    assert used == set(templates)
