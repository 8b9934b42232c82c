"""Findings that are known already: scenarios, and mutants, differ in little.

A part of the judgement that depends on nothing but its key is done once a process for each key.
"""

MOST = 2_000
_known = {}


def remembered(key, findings):
    """The findings of `findings()`, from memory if the key was there before. The key is text: all that
    the findings depend on.
    """
    if key not in _known:
        if len(_known) >= MOST:
            _known.clear()
        _known[key] = tuple(findings())
    return _known[key]
