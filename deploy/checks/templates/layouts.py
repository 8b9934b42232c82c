"""The layouts that a region can have."""

import itertools

from adtrack_deploy import stacks


def layouts():
    """Every layout that can be: what exists needs a network that exists."""
    choices = itertools.product((stacks.OWN, stacks.EXISTING), repeat=3)
    for network, groups, balancer in choices:
        if network == stacks.EXISTING or groups == balancer == stacks.OWN:
            yield stacks.Layout(network, groups, balancer, global_table=True, routed=True)
