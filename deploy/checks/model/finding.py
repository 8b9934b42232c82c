"""A finding: what is wrong, and with which resource of which template."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, order=True)
class Finding:
    """One line of `check-templates`."""

    file: str
    resource: str
    text: str

    def __str__(self):
        return f"{self.file}:{self.resource}: {self.text}"


class Failure(Finding):
    """A judge that could not judge: mostly a consequence of another finding, which says more."""


def failure(error, name, templates):
    """A failure in place of a traceback. The file, and the resource, are those that the judge was at."""
    file, resource, frame = "-", name, error.__traceback__
    while frame:
        for value in frame.tb_frame.f_locals.values():
            if isinstance(value, str) and value in templates:
                file = value
            elif isinstance(getattr(value, "file", None), str) and isinstance(getattr(value, "name", None), str):
                file, resource = value.file, value.name
        where, frame = frame.tb_frame.f_code, frame.tb_next
    module = Path(where.co_filename).stem
    return Failure(file, resource, f"cannot be judged ({module}, {where.co_name}): {type(error).__name__}: {error}")


def unique(findings):
    """The findings in their order, each once: several scenarios find the same."""
    return list(dict.fromkeys(findings))
