"""A model of the deployed system, computed from the templates.

`synth` evaluates the templates for a scenario of `scenarios` into the resources that CloudFormation
would make. `network` and `iam` compare what those resources allow with `flows`: the connections and
API calls that the binaries really make. Both directions count: what a flow needs has to be allowed, and
what is allowed has to be needed by a flow.
"""
