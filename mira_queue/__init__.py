"""Durable queue for chat-completion jobs: everything that a program calls, names, or catches.

    from mira_queue import JobError, MiraQueue, ResultTimeout

    queue = MiraQueue()
    job = queue.enqueue(messages=[{"role": "user", "content": "Why is the sky blue?"}])
    print(job.result(timeout=60).text)

Each name is loaded when it is first used, so `import mira_queue` is cheap. Names that are not listed here may change
in any version.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

# One import for each module, not one line for each name.
# isort: off
# fmt: off
if TYPE_CHECKING:
    from mira_producer.async_client import AsyncJob as AsyncJob, AsyncMiraQueue as AsyncMiraQueue
    from mira_producer.batches.async_client import AsyncBatches as AsyncBatches
    from mira_producer.batches.client import Batches as Batches, BatchRefused as BatchRefused
    from mira_producer.client import Job as Job, MiraQueue as MiraQueue
    from mira_producer.jsonl.errors import InputError as InputError
    from mira_queue.contract.batch import Batch as Batch, BatchOptions as BatchOptions, BatchStatus as BatchStatus
    from mira_queue.contract.errors import (
        AccountFault as AccountFault, BadRequest as BadRequest, BalanceUsedUp as BalanceUsedUp,
        BatchNotFound as BatchNotFound, InvalidResponse as InvalidResponse, ContentBlocked as ContentBlocked,
        Gone as Gone,
        IdempotencyConflict as IdempotencyConflict, InternalError as InternalError, InvalidKey as InvalidKey,
        InvalidRequest as InvalidRequest, JobCancelled as JobCancelled, JobError as JobError, JobExpired as JobExpired,
        JobFault as JobFault, JobNotFound as JobNotFound, MiraQueueError as MiraQueueError,
        ModelNotInPlan as ModelNotInPlan, NotFound as NotFound, Poison as Poison,
        QueueUnavailable as QueueUnavailable, Redirected as Redirected,
        RequestRejected as RequestRejected, ResultTimeout as ResultTimeout, ServerError as ServerError,
        ServerTimeout as ServerTimeout, ServiceFault as ServiceFault, TooLarge as TooLarge,
        Unprocessable as Unprocessable, Unreachable as Unreachable,
    )
    from mira_queue.contract.outcome import Completion as Completion, Failure as Failure, Outcome as Outcome
    from mira_queue.contract.settings import Settings as Settings, SettingsError as SettingsError
    from mira_queue.contract.states import JobState as JobState, JobStatus as JobStatus
    from mira_queue.runtime.settings_loader import load_settings as load_settings

    __version__: str
# fmt: on

# The module of each public name: the imports above, for the interpreter. A test compares the two.
_MODULES = {
    name: module
    for module, names in {
        "mira_producer.client": "MiraQueue Job",
        "mira_producer.async_client": "AsyncMiraQueue AsyncJob",
        "mira_queue.contract.states": "JobStatus JobState",
        "mira_queue.contract.outcome": "Outcome Completion Failure",
        "mira_producer.batches.client": "Batches BatchRefused",
        "mira_producer.batches.async_client": "AsyncBatches",
        "mira_queue.contract.batch": "Batch BatchStatus BatchOptions",
        "mira_queue.runtime.settings_loader": "load_settings",
        "mira_queue.contract.settings": "Settings SettingsError",
        "mira_queue.contract.errors": """
            MiraQueueError InvalidRequest IdempotencyConflict QueueUnavailable JobNotFound BatchNotFound ResultTimeout
            JobError JobFault BadRequest NotFound Gone TooLarge Unprocessable ContentBlocked RequestRejected
            Redirected Poison InternalError AccountFault InvalidKey BalanceUsedUp ModelNotInPlan
            ServiceFault ServerTimeout ServerError Unreachable InvalidResponse JobCancelled JobExpired
        """,
        "mira_producer.jsonl.errors": "InputError",
    }.items()
    for name in names.split()
}

__all__ = list(_MODULES)


def __getattr__(name: str) -> Any:
    """Return a public name, loaded on its first use, or `__version__`."""
    if name == "__version__":
        value = import_module("importlib.metadata").version("mira-queue")
    elif name in _MODULES:
        value = getattr(import_module(_MODULES[name]), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})
