"""Failures, and which alarms they have to ring: how soon, and no others.

Levels are what decides. For each alarm there is a failure that has to ring it, a level that is no failure,
and a disturbance that is over before anybody could do something. Samples are (value, how many a minute).
"""

from typing import NamedTuple

HOUR = 60
LONG = 12 * HOUR
GIB = 1 << 30


def ones(count):
    """Events that are counted one by one."""
    return ((1, count),)


def among(count, of):
    """A count that most sources report as 0."""
    return ((1, count), (0, of))


def level(value, others, of=8):
    """One source is at `value`, the others at `others`."""
    return ((value, 4), (others, of))


def flapping(bad, good, pattern):
    """Bad and good minutes in turn, such as `x.x.x`."""
    return tuple((minute, bad if sign == "x" else good) for minute, sign in enumerate(pattern))


NOTHING = ()
QUICK = ((0.002, 59_400), (0.03, 590), (0.045, 10))
DAY = {
    ("balancer", "RequestCount"): ones(60_000),
    ("balancer", "HTTPCode_Target_5XX_Count"): ones(2),
    ("balancer", "HTTPCode_ELB_5XX_Count"): NOTHING,
    ("balancer", "HTTPCode_ELB_503_Count"): NOTHING,
    ("balancer", "HealthyHostCount"): ((3, 3),),
    ("balancer", "UnHealthyHostCount"): ((0, 3),),
    ("balancer", "TargetResponseTime"): QUICK,
    ("kinesis-consumer's stream", "IncomingRecords"): ones(600),
    ("redis-updater's stream", "IncomingRecords"): ones(90),
    ("kinesis-consumer's stream", "WriteProvisionedThroughputExceeded"): ((0, 60_000),),
    ("kinesis-consumer's stream", "ReadProvisionedThroughputExceeded"): ((0, 240),),
    ("redis-updater's stream", "WriteProvisionedThroughputExceeded"): ((0, 100),),
    ("redis-updater's stream", "ReadProvisionedThroughputExceeded"): ((0, 240),),
    **{(function, name): samples for function in ("kinesis-consumer", "redis-updater") for name, samples in {
        "Invocations": ones(60), "IteratorAge": ((200, 50), (700, 10)), "Errors": ((0, 60),), "Throttles": ((0, 60),),
        "Records": ((90, 60),), "Failures": ((0, 60),), "Retries": ((0, 60),),
        "OldestRecordAge": ((300, 50), (1_200, 10)), "DifferingRepeats": ((0, 60),)}.items()},
    # None of these comes at all while there is nothing to count.
    **{(f"{function}'s mapping", name): NOTHING for function in ("kinesis-consumer", "redis-updater")
       for name in ("OnFailureDestinationDeliveredEventCount", "DroppedEventCount")},
    ("table", "WriteThrottleEvents"): NOTHING,
    ("tracker's log", "NotDrained"): NOTHING,
    ("tracker", "adtrack_journal_oldest_seconds"): level(0.4, 0.1),
    ("tracker", "adtrack_journal_bytes"): level(2e6, 1e6),
    # A deployment that enlarges the journal.
    ("tracker", "adtrack_journal_capacity_bytes"): level(8 * GIB, 16 * GIB),
    ("tracker", "adtrack_subscribed"): ((1, 12),),
    ("tracker", "adtrack_redis_connected"): ((1, 12),),
    ("tracker", "adtrack_core_data_loaded"): ((1, 12),),
    ("tracker", "adtrack_journal_damaged_total"): ((0, 12),),
    ("tracker", "adtrack_journal_lost_files"): ((0, 12),),
    ("tracker", "adtrack_task_stalled"): ((0, 12),),
    ("tracker", "adtrack_program_share_jumps"): ((0, 12),),
    ("tracker", "adtrack_task_protection_failed_total"): ((0, 12),),
    **{(f"node{number}", name): samples for number in (1, 2, 3) for name, samples in {
        "DatabaseMemoryUsagePercentage": ((30, 1),), "Evictions": ((0, 1),),
        "ReplicationLag": NOTHING if number == 1 else ((0.2, 1),), "EngineCPUUtilization": ((20, 1),)}.items()},
}
OF_TRAFFIC = [key for key in DAY if key[0] in ("kinesis-consumer", "kinesis-consumer's stream", "table")
              or key[1] in ("RequestCount", "HTTPCode_Target_5XX_Count", "TargetResponseTime")]
OF_CORE_DATA = [key for key in DAY if key[0] in ("redis-updater", "redis-updater's stream")]
NIGHT = DAY | dict.fromkeys(OF_TRAFFIC + OF_CORE_DATA, NOTHING)
OF_AGENT = [key for key in DAY if key[0] == "tracker"]


class Failure(NamedTuple):
    """What a failure does to metrics (samples; or, all of them, segments (minute, samples)), how long, and which
    alarms it has to ring within how many minutes. `may` ring too, without a promise."""

    name: str
    changes: dict
    rings: dict = {}
    minutes: float = 30
    may: tuple = ()
    regime: dict = DAY
    # After how many minutes the alarms are silent again.
    recovers: int = 8
    # Of how many tasks the deployment has at least, and at most.
    tasks: tuple = (1, 1_000)

    @property
    def is_flapping(self):
        """Whether its changes are segments of time."""
        return any(samples and isinstance(samples[0][1], tuple) for samples in self.changes.values())


def _simple(alarm, entity, metric, bad, good, worst, minutes, also=None, may=()):
    """A failure of one metric: `bad` rings within `minutes`, `good` is none, `worst` for a minute less than
    an alarm waits is none either."""
    key = (entity, metric)
    found = [Failure(f"{entity}: {metric}", {key: bad}, {alarm: minutes} | (also or {}), may=may)]
    if good is not None:
        found.append(Failure(f"{entity}: a tolerable {metric}", {key: good}, minutes=HOUR))
    if minutes > 2 and worst is not None:
        found.append(Failure(f"{entity}: {metric} for {minutes - 2} minutes", {key: worst}, minutes=minutes - 2))
    return found


ERRORS = ("Target5xx", "LoadBalancer5xx", "AvailabilityFast", "AvailabilitySlow")
TARGET, BALANCER = ("balancer", "HTTPCode_Target_5XX_Count"), ("balancer", "HTTPCode_ELB_5XX_Count")
HEALTHY = ("balancer", "HealthyHostCount")
AGE, BYTES = ("tracker", "adtrack_journal_oldest_seconds"), ("tracker", "adtrack_journal_bytes")
ROWS, STORES = ("kinesis-consumer", "OldestRecordAge"), ("redis-updater", "OldestRecordAge")
SUBSCRIBED = ("tracker", "adtrack_subscribed")
OF_INVOCATIONS = ("Invocations", "IteratorAge", "Errors", "Throttles", "Records", "Failures", "Retries",
                  "OldestRecordAge", "DifferingRepeats")
SLOW = ((0.002, 58_000), (0.2, 2_000))


def _idle(alarm, function):
    """A function that is not invoked, although records come; and what only looks like it."""
    invoked, records = (function, "Invocations"), (f"{function}'s stream", "IncomingRecords")
    silent = {(function, name): NOTHING for name in OF_INVOCATIONS}
    yield Failure(f"the stream of {function} was recreated, and nothing reads it", silent, {alarm: 6})
    yield Failure(f"one record a minute, and nothing invokes {function}",
                  silent | {records: ones(1)}, {alarm: 6}, regime=NIGHT)
    yield Failure(f"{function} is not invoked for four minutes", silent, minutes=4)
    # A record late in a minute is read in the next one.
    yield Failure(f"a record now and then for {function}",
                  {records: flapping(ones(1), NOTHING, "x.x.x.x.x.x."),
                   invoked: flapping(ones(1), NOTHING, ".x.x.x.x.x.x")}, regime=NIGHT)


FAILURES = [
    Failure("a healthy day", {}, minutes=HOUR),
    Failure("a healthy night without traffic", {}, minutes=HOUR, regime=NIGHT),
    Failure("a night with three requests a minute, one of them slow",
            {("balancer", "TargetResponseTime"): ((0.002, 2), (0.4, 1)), ("balancer", "RequestCount"): ones(3)},
            minutes=HOUR, regime=NIGHT),
    Failure("no metric of anything", dict.fromkeys(DAY, NOTHING), recovers=8, rings={
        "HealthyTargets": 6, "AvailabilityFast": 4, "JournalAge": 4, "Subscription": 4, "RedisConnection": 4,
        "CoreDataLoaded": 4}),
    # The load balancer.
    *_simple("Target5xx", *TARGET, ones(160), ones(75), ones(4_000), 6),
    *_simple("LoadBalancer5xx", *BALANCER, ones(32), ones(14), ones(4_000), 6),
    Failure("one tracker is left", {HEALTHY: ((1, 1), (3, 2))}, {"HealthyTargets": 6}, tasks=(2, 1_000)),
    Failure("one tracker, as many as there should be", {HEALTHY: ((1, 3),)}, tasks=(1, 1)),
    Failure("a node of the load balancer sees no healthy tracker", {HEALTHY: ((0, 1), (3, 2))}, {"HealthyTargets": 6}),
    Failure("two trackers are left", {HEALTHY: ((2, 3),)}, minutes=HOUR),
    Failure("one tracker is left for four minutes", {HEALTHY: ((1, 3),)}, minutes=4),
    Failure("no tracker is healthy for two minutes", {HEALTHY: ((0, 3),)}, minutes=2),
    Failure("all targets are unhealthy",
            {HEALTHY: ((0, 3),), BALANCER: ones(60_000), ("balancer", "TargetResponseTime"): NOTHING},
            {"HealthyTargets": 6, "LoadBalancer5xx": 6, "AvailabilityFast": 4, "AvailabilitySlow": 6}, recovers=40),
    Failure("no tracker is healthy, and nobody asks", {HEALTHY: ((0, 3),)},
            {"HealthyTargets": 6, "AvailabilityFast": 4}, regime=NIGHT),
    Failure("no target is registered, and nobody asks", {HEALTHY: NOTHING},
            {"HealthyTargets": 6, "AvailabilityFast": 4}, regime=NIGHT),
    # No target is chosen, so RequestCount counts nothing.
    Failure("no target is registered",
            {HEALTHY: NOTHING, ("balancer", "UnHealthyHostCount"): NOTHING, ("balancer", "RequestCount"): NOTHING,
             BALANCER: ones(60_000), ("balancer", "HTTPCode_ELB_503_Count"): ones(60_000), TARGET: NOTHING,
             ("balancer", "TargetResponseTime"): NOTHING},
            {"HealthyTargets": 6, "LoadBalancer5xx": 6, "AvailabilityFast": 6, "AvailabilitySlow": 6}, recovers=40),
    Failure("a tenth of the requests fails, in the trackers", {TARGET: ones(6_000)},
            {"Target5xx": 6, "AvailabilityFast": 8, "AvailabilitySlow": 13}, minutes=30, recovers=35),
    Failure("a tenth of the requests fails, in the load balancer", {BALANCER: ones(6_000)},
            {"LoadBalancer5xx": 6, "AvailabilityFast": 8, "AvailabilitySlow": 13}, minutes=30, recovers=35),
    Failure("the fast alarm ends with the failure", {TARGET: ones(6_000)},
            {"AvailabilityFast": 8}, minutes=30, may=ERRORS, recovers=6),
    Failure("one request in a hundred fails", {TARGET: ones(600)},
            {"Target5xx": 6, "AvailabilityFast": 46, "AvailabilitySlow": 112}, minutes=4 * HOUR, recovers=35),
    Failure("half a percent of the requests fails", {TARGET: ones(150), BALANCER: ones(150)},
            {"Target5xx": 6, "LoadBalancer5xx": 6, "AvailabilitySlow": 220}, minutes=8 * HOUR, recovers=35),
    Failure("a quarter of a percent of the requests fails", {TARGET: ones(130)},
            {"Target5xx": 6}, minutes=8 * HOUR),
    Failure("everything fails for two minutes", {TARGET: ones(60_000)}, minutes=2,
            may=("AvailabilityFast", "AvailabilitySlow"), recovers=40),
    Failure("a fifth of the requests fails for two minutes", {TARGET: ones(12_000)}, minutes=2),
    *_simple("LatencyP99", "balancer", "TargetResponseTime",
             SLOW, ((0.002, 59_000), (0.035, 600), (0.3, 400)), SLOW, 4),
    Failure("every other minute is slow",
            {("balancer", "TargetResponseTime"): flapping(SLOW, QUICK, "x.x.x.x.x.x.")}, {"LatencyP99": 6}),
    Failure("every third minute is slow",
            {("balancer", "TargetResponseTime"): flapping(SLOW, QUICK, "x..x..x..x..")}),
    # Trackers.
    *_simple("JournalAge", *AGE, level(50, 0.1), level(18, 0.1), level(200, 100), 4, also={"ResponseToRow": 4}),
    *_simple("JournalFill", *BYTES, level(5.6 * GIB, 2e6), level(3 * GIB, 2e6), level(8 * GIB, 2e6), 3),
    *_simple("TaskProtection", "tracker", "adtrack_task_protection_failed_total", among(1, 11), None, among(9, 3), 4),
    *_simple("JournalDamaged", "tracker", "adtrack_journal_damaged_total", among(1, 11), None, None, 2),
    *_simple("JournalFiles", "tracker", "adtrack_journal_lost_files", among(1, 11), None, None, 2),
    *_simple("ProgramShare", "tracker", "adtrack_program_share_jumps", among(1, 11), None, among(9, 3), 4),
    *_simple("TaskStalled", "tracker", "adtrack_task_stalled", among(1, 11), None, None, 2),
    Failure("a tracker stops before it is drained", {("tracker's log", "NotDrained"): ones(1)},
            {"NotDrained": 2}, minutes=1),
    Failure("a stretch of a journal is damaged", {("tracker", "adtrack_journal_damaged_total"): among(1, 11)},
            {"JournalDamaged": 2}, minutes=1),
    Failure("the metrics agents are gone", dict.fromkeys(OF_AGENT, NOTHING),
            {"JournalAge": 4, "Subscription": 4, "RedisConnection": 4, "CoreDataLoaded": 4,
             "MetricsAgents": 14}),
    Failure("a metrics agent of three is gone", {AGE: level(0.4, 0.1, of=4)}, {"MetricsAgents": 14}),
    Failure("a metrics agent is gone for ten minutes", {AGE: level(0.4, 0.1, of=4)}, minutes=10),
    Failure("a tracker of three starts", {AGE: level(0.4, 0.1, of=4), HEALTHY: ((2, 3),)}),
    Failure("a tracker crashes again and again", {HEALTHY: ((1, 2), (2, 1)), TARGET: ones(40), BALANCER: ones(60)},
            {"HealthyTargets": 6, "LoadBalancer5xx": 6}, tasks=(2, 1_000)),
    *_simple("Subscription", *SUBSCRIBED, level(0, 1), None, ((0, 12),), 4, also={"CoreDataToTrackers": 4}),
    *(Failure(f"{name} of a tracker is lost for two minutes of three",
              {("tracker", name): flapping(level(0, 1), level(1, 1), "xx.xx.xx.xx.")})
      for name in ("adtrack_subscribed", "adtrack_redis_connected")),
    *_simple("RedisConnection", "tracker", "adtrack_redis_connected", level(0, 1), None, ((0, 12),), 4),
    *_simple("CoreDataLoaded", "tracker", "adtrack_core_data_loaded", level(0, 1), None, ((0, 12),), 4),
    # From response to row.
    *_simple("ResponseToRow", *ROWS, ((50_000, 1), (300, 59)), ((22_000, 1), (300, 59)), ((300_000, 60),), 4),
    Failure("rows are late every other minute",
            {ROWS: flapping(((50_000, 1), (300, 59)), ((300, 60),), "x.x.x.x.x.x.")}, {"ResponseToRow": 6}),
    Failure("rows are late every third minute",
            {ROWS: flapping(((50_000, 1), (300, 59)), ((300, 60),), "x..x..x..x..")}),
    Failure("half of the wait is in the journal, half on the stream",
            {AGE: level(18, 0.1), ROWS: ((18_000, 1), (300, 59))}, {"ResponseToRow": 4}),
    Failure("a tolerable wait in journal and stream", {AGE: level(12, 0.1), ROWS: ((12_000, 1), (300, 59))}),
    Failure("rows are late, and the metrics agents are gone",
            dict.fromkeys(OF_AGENT, NOTHING) | {ROWS: ((50_000, 1), (300, 59))},
            {"ResponseToRow": 4, "JournalAge": 4, "Subscription": 4, "RedisConnection": 4, "CoreDataLoaded": 4,
             "MetricsAgents": 14}),
    Failure("nothing reaches the stream", {AGE: level(50, 0.1)}, {"ResponseToRow": 4, "JournalAge": 4}, regime=NIGHT),
    *_simple("EventStreamThrottles", "kinesis-consumer's stream", "WriteProvisionedThroughputExceeded",
             among(160, 59_000), among(75, 59_000), among(9_000, 0), 6),
    *_simple("EventReadThrottles", "kinesis-consumer's stream", "ReadProvisionedThroughputExceeded",
             among(160, 80), among(75, 165), among(240, 0), 6),
    *_simple("ConsumerIteratorAge", "kinesis-consumer", "IteratorAge",
             ((100_000, 1), (200, 59)), ((45_000, 1), (200, 59)), ((900_000, 60),), 6),
    Failure("kinesis-consumer is behind", {("kinesis-consumer", "IteratorAge"): ((100_000, 10), (200, 50)),
                                           ROWS: ((100_000, 10), (200, 50))},
            {"ConsumerIteratorAge": 6, "ResponseToRow": 4}),
    *_idle("ConsumerIdle", "kinesis-consumer"),
    *_simple("ConsumerErrors", "kinesis-consumer", "Errors", among(1, 59), None, among(60, 0), 4),
    *_simple("ConsumerThrottles", "kinesis-consumer", "Throttles", among(20, 60), among(7, 60), among(900, 0), 6),
    *_simple("ConsumerFailedRecords", "kinesis-consumer", "Failures", among(1, 59), None, None, 2),
    *_simple("DifferingRepeats", "kinesis-consumer", "DifferingRepeats", among(1, 59), None, None, 2),
    Failure("a repeat differs", {("kinesis-consumer", "DifferingRepeats"): among(1, 59)},
            {"DifferingRepeats": 2}, minutes=1),
    Failure("a bad record", {("kinesis-consumer", "Failures"): among(1, 59)},
            {"ConsumerFailedRecords": 2}, minutes=1),
    Failure("Lambda gives events up", {("kinesis-consumer's mapping", "OnFailureDestinationDeliveredEventCount"):
                                       ones(1)}, {"ConsumerOnFailure": 2}, minutes=1),
    Failure("Lambda drops events", {("kinesis-consumer's mapping", "DroppedEventCount"): ones(1)},
            {"ConsumerDropped": 2}, minutes=1),
    *_simple("TableThrottles", "table", "WriteThrottleEvents", ones(160), ones(75), ones(60_000), 6),
    # Core data.
    *_simple("CoreDataThrottles", "redis-updater's stream", "WriteProvisionedThroughputExceeded",
             among(160, 900), among(75, 900), among(9_000, 0), 6),
    *_simple("UpdaterIteratorAge", "redis-updater", "IteratorAge",
             ((50_000, 1), (200, 59)), ((18_000, 1), (200, 59)), ((900_000, 60),), 4),
    *_idle("UpdaterIdle", "redis-updater"),
    *_simple("UpdaterErrors", "redis-updater", "Errors", among(1, 59), None, among(60, 0), 4),
    *_simple("UpdaterThrottles", "redis-updater", "Throttles", among(20, 60), among(7, 60), among(900, 0), 6),
    *_simple("UpdaterFailedRecords", "redis-updater", "Failures", among(1, 59), None, None, 2),
    Failure("Lambda gives core data up", {("redis-updater's mapping", "OnFailureDestinationDeliveredEventCount"):
                                          ones(1)}, {"UpdaterOnFailure": 2}, minutes=1),
    Failure("Lambda drops core data", {("redis-updater's mapping", "DroppedEventCount"): ones(1)},
            {"UpdaterDropped": 2}, minutes=1),
    *_simple("CoreDataToTrackers", *STORES, ((20_000, 1), (300, 59)), ((7_000, 1), (300, 59)), ((99_000, 60),), 4),
    Failure("a tracker is not subscribed, and nothing is published", {SUBSCRIBED: level(0, 1)},
            {"Subscription": 4, "CoreDataToTrackers": 4}, regime=NIGHT),
    Failure("core data is late, and the metrics agents are gone",
            dict.fromkeys(OF_AGENT, NOTHING) | {STORES: ((20_000, 1), (300, 59))},
            {"CoreDataToTrackers": 4, "JournalAge": 4, "Subscription": 4, "RedisConnection": 4, "CoreDataLoaded": 4,
             "MetricsAgents": 14}),
    # Redis, each node.
    *(failure for number in (1, 2, 3) for failure in [
        *_simple("RedisMemory", f"node{number}", "DatabaseMemoryUsagePercentage",
                 ((85, 1),), ((68, 1),), ((99, 1),), 6),
        *_simple("RedisEvictions", f"node{number}", "Evictions", ((1, 1),), None, None, 2),
        # After a failover the replica may be any of them.
        *_simple("RedisReplicationLag", f"node{number}", "ReplicationLag", ((8, 1),), ((3, 1),), ((90, 1),), 6),
        *_simple("RedisCpu", f"node{number}", "EngineCPUUtilization", ((90, 1),), ((70, 1),), ((100, 1),), 6)]),
]
