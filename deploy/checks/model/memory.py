"""Results that are known already: scenarios, and mutants, differ in little.

A part of the judgement that depends on nothing but its key is done once a process for each key.
"""


class Memory:
    """Results by their key, at most `most` of them. All that a result depends on is in its key."""

    def __init__(self, most):
        self._most = most
        self._known = {}

    def get(self, key):
        return self._known.get(key)

    def put(self, key, result):
        if len(self._known) >= self._most:
            self._known.clear()
        self._known[key] = result


_findings = Memory(10_000)


def remembered(key, findings):
    """The findings of `findings()`, as they are found."""
    known = _findings.get(key)
    if known is not None:
        yield from known
        return
    found = []
    for finding in findings():
        found.append(finding)
        yield finding
    _findings.put(key, found)
