"""Names that producers and workers share: the task, the queues, and every key of ours in Redis with its TTL.

Each key has one builder below. Its docstring says the type, the owner, and the lifetime.
"""

from __future__ import annotations

import hashlib
from datetime import timedelta
from enum import Enum
from functools import lru_cache

TASK = "mira.run_job"
GROUP_TASK = "mira.run_jobs"
QUEUE = "mira.jobs"
BULK_QUEUE = "mira.bulk"

# TTLs of an account's keys. A job's keys live for MIRA_RESULT_TTL after the job has finished.
ACCOUNT_TTL = timedelta(days=7)  # after its last call or worker
ACTIVITY_MINUTES = timedelta(hours=1)  # how long the ends of jobs are counted per minute, before they become totals
ACTIVITY_HOURS = timedelta(days=2)  # how long tokens are counted per hour: today, in every time zone
CALL_HISTORY = timedelta(minutes=2)  # calls that the logs keep, and the longest window of a rate limit
JOB_ACTION_TTL = timedelta(days=1)  # after the last progress of an action on many jobs
KEY_MARGIN = timedelta(minutes=1)  # added to the TTL of keys whose entries expire by themselves
CHUNKS_TTL = timedelta(minutes=1)  # after the last chunk; longer than the pause between two of them
CLOCK_TTL = timedelta(days=7)  # after the clock was last read
FAULTS_TTL = timedelta(minutes=2)  # longer than the pause between two probes; faults further apart are unrelated
GATEWAY_LEASE = timedelta(seconds=3)  # a gateway that is silent for longer has crashed
HOLD_TTL = timedelta(days=7)  # a hold that no supervisor has removed
HTTP_KEY_TTL = timedelta(days=1)  # an Idempotency-Key of the gateway
HTTP_REQUEST_TTL = timedelta(hours=1)  # an HTTP request whose connection is still open
MAX_CLOCK_STEP = timedelta(seconds=5)  # a larger step of the server's clock between two reads is a jump
MAX_SLEEP = timedelta(seconds=30)  # a process that waits requests permits again after this time at the latest
RETRY_WITHIN = timedelta(minutes=10)  # after a connection broke; SDKs give up after this time
# The same for each retry, if the response was written; SDKs wait for at most 8 s.
DOUBTFUL_WITHIN = timedelta(seconds=12)
USAGE_TTL = timedelta(days=2)  # of a project without open jobs: longer than the day whose cost it has
TURN = timedelta(milliseconds=500)  # a process that requests no permit for this long after its wait loses its turn
WORKERS_TTL = timedelta(days=1)  # longer than a worker may leave between two reports
WRITE_CHECK_TTL = timedelta(milliseconds=1)
# Jobs in each index of single jobs. A list then costs the same, whatever the length of the queue.
MAX_LISTED = 10_000
# Deliveries of webhooks in each list of recent ones.
MAX_RECENT_DELIVERIES = 1000
# Fields of an account's activity. From then on, the tokens of a model that is new count for no model by name.
MAX_ACTIVITY = 5000
# Leases in the timeline of a job. The first ones and the last ones stay.
MAX_LEASES, FIRST_LEASES = 20, 5
# Changes of an account's learned limits that are kept.
MAX_LIMIT_CHANGES = 200
# Chunks of a streamed answer in one run of a script, whose arguments are limited.
MAX_CHUNKS = 1000


class Lane(Enum):
    """Kind of an account's queue (see `queue_name`), and the priority of a message there (0 is served first).

    A rescued job has waited already, so it goes first, and so does one with a high priority. Jobs of a file have their
    own queue. Workers take from both queues in turn: a single job does not wait behind a million lines, nor a file for
    single jobs that keep coming.
    """

    FIRST = (QUEUE, 0)
    NORMAL = (QUEUE, 3)
    # Served when no message of another lane waits. A process for single jobs serves no files, so that these jobs run
    # while a file does.
    LOW = (QUEUE, 6)
    # Not 0, which workers serve first in all queues. From equal priorities they take in turn.
    BULK = (BULK_QUEUE, 3)

    def __init__(self, queue: str, priority: int) -> None:
        self.queue = queue
        self.priority = priority


# Zset, owned by accept and the workers. An entry lives for ACCOUNT_TTL after the account's last job or worker; the
# score is that time.
ACCOUNTS = "mira:accounts"
# Zset, owned by the workers. An entry lives until its worker stops; the score is when it counts as crashed if silent.
WORKERS = "mira:workers"
# Zset, owned by submit. An entry lives as long as its batch; the score is when the batch was created.
BATCHES = "mira:batches"
# Zset, owned by the batches. An entry (a group of jobs that must not start, or those of it with an account, or with an
# account and a model) lives until the batch runs again, or for HOLD_TTL; the score is when it expires. A channel tells
# all workers of a new one.
HOLDS = "mira:holds"
HOLDS_CHANNEL = "mira:held"
# Set, owned by submit. An entry lives while a supervisor has to run its batch.
OPEN_BATCHES = "mira:batches:open"
# String, owned by the first process that connects: the version of the ledger's schema. It lives as long as the data.
SCHEMA_KEY = "mira:schema"
# Hash, owned by the ledger's clock: jumps of the server's clock, which it does not follow. It lives for CLOCK_TTL.
CLOCK = "mira:clock"
# Hash, owned by the operator: API keys of the gateway, by the digest of the key. An entry lives until it is revoked.
API_KEYS = "mira:api-keys"
# String, owned by the gateways: the secret that signs the cookies of the web page. It lives as long as the data.
PAGE_SECRET = "mira:page-secret"
# List, owned by the gateways: events in JSON. An entry lives until a gateway has made its deliveries.
WEBHOOK_EVENTS = "mira:webhook-events"
# Zset, owned by the gateways: receivers. An entry lives while there are deliveries; the score is when the next is due.
WEBHOOK_RECEIVERS = "mira:webhook-receivers"
# Zset, owned by the gateways: recent deliveries of all projects. It lives for MIRA_RESULT_TTL after the last one.
ALL_DELIVERIES = "mira:all-deliveries"
# Zset, owned by the gateways. An entry lives until RETRY_WITHIN after its gateway has stopped; the score is the end of
# its lease.
GATEWAYS = "mira:gateways"
# No key: it never exists. A script deletes it first, so that a full server allows its other writes.
NO_KEY = "mira:none"
# String, owned by rescue. It lives for WRITE_CHECK_TTL.
WRITE_CHECK = "mira:write-check"


class _Key:
    """Builder of keys from a prefix and an id. Its docstring says the type, the owner, and the lifetime."""

    def __init__(self, prefix: str, doc: str) -> None:
        self._prefix = prefix
        self.__doc__ = doc

    def __call__(self, id_: str) -> str:
        return self._prefix + id_


job_key = _Key("mira:job:", "Hash, owned by the job. It lives while the job is open, and then for MIRA_RESULT_TTL.")
request_key = _Key("mira:request:", "String, owned by the job. It lives as long as the job, or until the job succeeds.")
chunks_key = _Key("mira:chunks:", "List, owned by the job's worker. It lives for CHUNKS_TTL after its last entry.")
# One entry for each of its leases that did not finish it.
timeline_key = _Key("mira:timeline:", "List, owned by the single job. It lives as long as the job.")
batch_key = _Key("mira:batch:", "Hash, owned by the batch. It lives while that is open, and then for MIRA_RESULT_TTL.")
finished_key = _Key("mira:finished:", "List, owned by the group's engine. It lives for MIRA_RESULT_TTL after its end.")
# An action on many jobs, with its progress.
job_action_key = _Key("mira:job-action:", "String, owned by the gateways. It lives for JOB_ACTION_TTL after a write.")
# A channel of the same name announces the result.
result_key = _Key("celery-task-meta-", "String, owned by Celery's Redis backend. It lives for MIRA_RESULT_TTL.")
# The score is the end of the lease.
leased_key = _Key("mira:leased:", "Zset, owned by the account. An entry lives while its job runs.")
# The score is when the job is overdue.
waiting_key = _Key("mira:waiting:", "Zset, owned by the account. An entry lives while its job waits.")
# The score is the deadline.
deadlines_key = _Key("mira:deadlines:", "Zset, owned by accept: jobs. An entry lives until its job has ended.")
# Base URL, circuit breaker, limits, counts.
pace_key = _Key("mira:pace:", "Hash, owned by the account. It lives for ACCOUNT_TTL after a call or worker.")
sent_key = _Key("mira:sent:", "Zset, owned by the account: calls. It lives for CALL_HISTORY or the longest window.")
tokens_key = _Key("mira:tokens:", "Zset, owned by the account: tokens that were used. It lives as long as `sent_key`.")
# Jobs that ended, per minute, and their tokens, per hour; older ones are added to totals (lib/activity.lua).
activity_key = _Key("mira:activity:", "Hash, owned by the account. It lives for ACCOUNT_TTL after a job has ended.")
# Histograms of the durations of calls, and of the waits for permits (lib/call_times.lua).
call_times_key = _Key("mira:call-times:", "Hash, owned by the account. It lives for ACCOUNT_TTL after a call.")
# Learned limits, with the time of each change. The oldest of MAX_LIMIT_CHANGES makes room.
limit_changes_key = _Key("mira:limits:", "List, owned by the account. It lives for ACCOUNT_TTL after a change.")
# The score is the end of the call's lease.
in_flight_key = _Key("mira:in-flight:", "Zset, owned by the account: calls in flight. KEY_MARGIN after a lease.")
# The score is the number of calls granted to the process.
turns_key = _Key("mira:turns:", "Zset, owned by the account: processes that wait. It lives for ACCOUNT_TTL.")
# The score is when the process loses its turn.
turn_ends_key = _Key("mira:turn-ends:", "Zset, owned by the account: processes that wait. It lives for ACCOUNT_TTL.")
# Errors that all its calls, or all of a model, would get.
rejections_key = _Key("mira:rejections:", "Hash, owned by the account. It lives for ACCOUNT_TTL.")
# The score is the time of a fault that no answer has followed; negative if it does not count for other jobs.
faults_key = _Key("mira:faults:", "Zset, owned by the account: ids of jobs. It lives for FAULTS_TTL.")


# The index of open jobs. Other indexes have the name of a final state, or of an error code.
OPEN = "open"


def listed_key(kind: str, project: str = "") -> str:
    """Zset of single jobs, owned by accept and finish: those that are OPEN, or that ended in a state or with a code.

    It has the jobs of one project of the gateway; without a project, it has all jobs.

    The score is when the job was accepted. An entry lives as long as its job, and until MAX_LISTED newer ones exist.
    The zset of open jobs lives as long as they do; the others live for MIRA_RESULT_TTL after the last job came to them.
    """
    return f"mira:listed:{kind}:{project}" if project else f"mira:listed:{kind}"


def listed_keys(account: str, project: str, state: str, code: str = "") -> list[str]:
    """Return the keys of a single job that ends or is retried, in the order of lib/listed.lua.

    They are the deadlines of its account, the usage of its project, and its indexes. First come those of open jobs,
    then those of its final state and of its error code: of its project, if it has one, and of all jobs.
    """
    projects = dict.fromkeys((project, ""))
    indexes = [listed_key(kind, each) for kind in (OPEN, state, code) if kind for each in projects]
    return [deadlines_key(account), usage_key(project), *indexes]


# Open jobs and lines, and the cost of the day.
usage_key = _Key("mira:usage:", "Hash, owned by the project. It lives while it has open jobs, and then for USAGE_TTL.")


def recent_requests_key(api_key: str, digest: str) -> str:
    """Zset, owned by the gateways: equal requests of an API key. It lives for HTTP_REQUEST_TTL, or RETRY_WITHIN.

    A member is the identity of a request, its gateway, and the name of the call that added it. The score of one whose
    response was lost is until when a retry may get the identity. It is infinite if the connection is open, and 9e15 if
    that has broken and the handler still runs. `digest` is that of path and body.
    """
    return f"mira:requests:{hashlib.sha256(f'{api_key}:{digest}'.encode()).hexdigest()[:32]}"


def http_idempotency_key(project: str, key: str) -> str:
    """String, owned by the gateways: digest and identity of the first request with this key. It lives for HTTP_KEY_TTL.

    It contains a hash, so the name is short and reveals nothing.
    """
    return f"mira:http-key:{hashlib.sha256(f'{project}:{key}'.encode()).hexdigest()[:32]}"


def deleted_key(digest: str) -> str:
    """String, owned by the gateways: place and project of a deleted object. It lives for HTTP_KEY_TTL.

    Its Idempotency-Key must not create it again, and lists continue after it. `digest` is that of its identity.
    """
    return f"mira:deleted:{digest}"


webhook_endpoints_key = _Key(
    "mira:webhook-endpoints:", "Hash, owned by the project: its endpoints by id. An entry lives until it is deleted."
)
delivery_key = _Key(
    "mira:delivery:",
    "Hash, owned by the gateways. It lives while it is pending, and then for MIRA_RESULT_TTL.",
)
# The score is when the delivery is due, or when the lease of a running attempt ends.
receiver_key = _Key(
    "mira:receiver:", "Zset, owned by the gateways: deliveries. An entry lives as long as its delivery."
)
receiver_pause_key = _Key("mira:receiver-pause:", "String, owned by the gateways. It lives until the pause has passed.")
# The score is when the delivery died.
dead_deliveries_key = _Key("mira:dead-deliveries:", "Zset, owned by the project. It lives for MIRA_RESULT_TTL.")
# The score is when the delivery was made. An entry lives until MAX_RECENT_DELIVERIES newer ones exist.
deliveries_key = _Key(
    "mira:deliveries:",
    "Zset, owned by the project: recent deliveries. It lives for MIRA_RESULT_TTL after the last one.",
)


@lru_cache(maxsize=1000)
def webhook_keys(project: str) -> tuple[str, str]:
    """Return the keys of a script that adds an event of this project, in the order of lib/events.lua."""
    return WEBHOOK_EVENTS, webhook_endpoints_key(project)


def idempotency_key(account: str, key: str) -> str:
    """String, owned by the job. It lives as long as the job. The same key of two accounts is two keys.

    It contains a hash, so the name is short and reveals nothing. The name for an empty key is never written.
    """
    return f"mira:key:{hashlib.sha256(f'{account}:{key}'.encode()).hexdigest()[:32]}" if key else "mira:key:"


def queue_name(account: str, queue: str) -> str:
    """Return the name of an account's Celery queue of this kind: QUEUE or BULK_QUEUE."""
    return f"{queue}.{account}"


def account_of_queue(name: str) -> str:
    """Return the account whose Celery queue has this name."""
    return name.rpartition(".")[2]


def queued_key(account: str, lane: Lane) -> str:
    """Zset, owned by accept, release, rescue and resend. An entry lives while its job is queued.

    The score is when the job's message was sent.
    """
    return f"mira:queued:{lane.name.lower()}:{account}"


def messages_key(account: str, lane: Lane) -> str:
    """List of Celery's messages, owned by Celery. The separator is the transport's."""
    name = queue_name(account, lane.queue)
    return f"{name}\x06\x16{lane.priority}" if lane.priority else name


def queue_keys(account: str) -> list[str]:
    """Return the zsets of an account's jobs that have no lease, in the order of lib/job.lua."""
    return [waiting_key(account), *(queued_key(account, lane) for lane in Lane)]


def job_keys(account: str, job_id: str, key: str = "", group: str = "") -> list[str]:
    """Return the keys of a script that moves one job of the account, in the order of lib/job.lua.

    A script that neither finishes nor removes the job needs no `key` and no `group`.
    """
    own = [job_key(job_id), request_key(job_id), result_key(job_id), idempotency_key(account, key), finished_key(group)]
    return [*own, *_shared_keys(account)]


# Each operation on a job needs them, and they cost as much as the rest of its call.
@lru_cache(maxsize=1000)
def _shared_keys(account: str) -> tuple[str, ...]:
    return (leased_key(account), HOLDS, *queue_keys(account))


def wake_channel(account: str, process: str = "") -> str:
    """Return the channel that tells a process to request permits; without a process, the prefix of the channels."""
    return f"mira:wake:{account}:{process}"
