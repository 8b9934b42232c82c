"""What the alarms of the availability objective measure: the percentage of requests that fail.

The same is computed here a second time, and compared over metrics that are there or missing, 0, 1 and many; the
simulation of failures shows when an alarm rings, not a value that is somewhat wrong.
"""

import itertools
import math

from .alarms_cloudwatch import AlarmError

ALARMS = ("ErrorsFast5m", "ErrorsFast1h", "ErrorsSlow30m", "ErrorsSlow6h")
# Metrics that it is computed of. RequestCount has only requests for which a target was chosen; the load balancer
# refuses the others with 503.
CHOSEN, REFUSED = "RequestCount", "HTTPCode_ELB_503_Count"
FAILED = ("HTTPCode_Target_5XX_Count", "HTTPCode_ELB_5XX_Count")
METRICS = (CHOSEN, REFUSED, *FAILED)
COUNTS = (None, 0, 1, 1000)


def failed_percent(counts):
    """The percentage of requests that fail; none fails if there is none. A metric that is missing counts nothing."""
    present = {name: count or 0 for name, count in counts.items()}
    requests = present[CHOSEN] + present[REFUSED]
    return 100 * sum(present[name] for name in FAILED) / requests if requests else 0


def problem(name, alarm):
    """Counts for which an alarm measures something else, in words; None if there are none."""
    if name not in ALARMS:
        return None
    named = {query.key[1]: identifier for identifier, query in alarm.queries.items()}
    if set(named) != set(METRICS) or any(query.stat != "Sum" for query in alarm.queries.values()):
        return f"it is not computed of the sums of {', '.join(METRICS)}"
    for values in itertools.product(COUNTS, repeat=len(METRICS)):
        counts = dict(zip(METRICS, values, strict=True))
        expected = failed_percent(counts)
        try:
            found = alarm.value({named[metric]: count for metric, count in counts.items()})
        except AlarmError as error:
            return str(error)
        if found is None or not math.isclose(found, expected, abs_tol=1e-9):
            shown = ", ".join(f"{metric} {'missing' if count is None else count}" for metric, count in counts.items())
            return f"measures {found}, not {expected} % of failed requests, if {shown}"
    return None
