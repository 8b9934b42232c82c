"""A finding: what is wrong, and with which resource of which template."""

from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Finding:
    """One line of `check-templates`."""

    file: str
    resource: str
    text: str

    def __str__(self):
        return f"{self.file}:{self.resource}: {self.text}"


def unique(findings):
    """The findings in their order, each once: several scenarios find the same."""
    return list(dict.fromkeys(findings))
