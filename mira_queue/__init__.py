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

# isort: off  (it would give each alias a line of its own)
if TYPE_CHECKING:
    from mira_producer.async_client import AsyncJob as AsyncJob
    from mira_producer.async_client import AsyncMiraQueue as AsyncMiraQueue
    from mira_producer.batches.async_client import AsyncBatches as AsyncBatches
    from mira_producer.batches.client import Batches as Batches
    from mira_producer.batches.client import BatchRefused as BatchRefused
    from mira_producer.client import Job as Job
    from mira_producer.client import MiraQueue as MiraQueue
    from mira_producer.jsonl.errors import InputError as InputError

    from mira_queue.contract.batch import Batch as Batch
    from mira_queue.contract.batch import BatchOptions as BatchOptions
    from mira_queue.contract.batch import BatchStatus as BatchStatus
    from mira_queue.contract.errors import (
        AccountFault as AccountFault,
    )
    from mira_queue.contract.errors import (
        BadRequest as BadRequest,
    )
    from mira_queue.contract.errors import (
        BalanceUsedUp as BalanceUsedUp,
    )
    from mira_queue.contract.errors import (
        BatchNotFound as BatchNotFound,
    )
    from mira_queue.contract.errors import (
        BrokenAnswer as BrokenAnswer,
    )
    from mira_queue.contract.errors import (
        ContentBlocked as ContentBlocked,
    )
    from mira_queue.contract.errors import (
        Gone as Gone,
    )
    from mira_queue.contract.errors import (
        IdempotencyConflict as IdempotencyConflict,
    )
    from mira_queue.contract.errors import (
        InternalError as InternalError,
    )
    from mira_queue.contract.errors import (
        InvalidKey as InvalidKey,
    )
    from mira_queue.contract.errors import (
        InvalidRequest as InvalidRequest,
    )
    from mira_queue.contract.errors import (
        JobCancelled as JobCancelled,
    )
    from mira_queue.contract.errors import (
        JobError as JobError,
    )
    from mira_queue.contract.errors import (
        JobFault as JobFault,
    )
    from mira_queue.contract.errors import (
        JobNotFound as JobNotFound,
    )
    from mira_queue.contract.errors import (
        MiraQueueError as MiraQueueError,
    )
    from mira_queue.contract.errors import (
        ModelNotInPlan as ModelNotInPlan,
    )
    from mira_queue.contract.errors import (
        NotFound as NotFound,
    )
    from mira_queue.contract.errors import (
        Poison as Poison,
    )
    from mira_queue.contract.errors import (
        QueueUnavailable as QueueUnavailable,
    )
    from mira_queue.contract.errors import (
        Redirected as Redirected,
    )
    from mira_queue.contract.errors import (
        Refused as Refused,
    )
    from mira_queue.contract.errors import (
        ResultTimeout as ResultTimeout,
    )
    from mira_queue.contract.errors import (
        ServerError as ServerError,
    )
    from mira_queue.contract.errors import (
        ServerTimeout as ServerTimeout,
    )
    from mira_queue.contract.errors import (
        ServiceFault as ServiceFault,
    )
    from mira_queue.contract.errors import (
        TooLarge as TooLarge,
    )
    from mira_queue.contract.errors import (
        Unprocessable as Unprocessable,
    )
    from mira_queue.contract.errors import (
        Unreachable as Unreachable,
    )
    from mira_queue.contract.outcome import Completion as Completion
    from mira_queue.contract.outcome import Failure as Failure
    from mira_queue.contract.outcome import Outcome as Outcome
    from mira_queue.contract.settings import Settings as Settings
    from mira_queue.contract.settings import SettingsError as SettingsError
    from mira_queue.contract.states import JobState as JobState
    from mira_queue.contract.states import JobStatus as JobStatus
    from mira_queue.runtime.settings_loader import load_settings as load_settings

    __version__: str

# The module of each public name: the imports above, for the interpreter. A test compares the two.
_MODULES = {
    name: module
    for module, names in {
        "mira_producer.async_client": "AsyncJob AsyncMiraQueue",
        "mira_producer.batches.async_client": "AsyncBatches",
        "mira_producer.batches.client": "BatchRefused Batches",
        "mira_producer.client": "Job MiraQueue",
        "mira_producer.jsonl.errors": "InputError",
        "mira_queue.contract.batch": "Batch BatchOptions BatchStatus",
        "mira_queue.contract.errors": """
            AccountFault BadRequest BalanceUsedUp BatchNotFound BrokenAnswer ContentBlocked Gone IdempotencyConflict
            InternalError InvalidKey InvalidRequest JobCancelled JobError JobFault JobNotFound MiraQueueError
            ModelNotInPlan NotFound Poison QueueUnavailable Redirected Refused ResultTimeout ServerError ServerTimeout
            ServiceFault TooLarge Unprocessable Unreachable
        """,
        "mira_queue.contract.outcome": "Completion Failure Outcome",
        "mira_queue.contract.settings": "Settings SettingsError",
        "mira_queue.contract.states": "JobState JobStatus",
        "mira_queue.runtime.settings_loader": "load_settings",
    }.items()
    for name in names.split()
}

__all__ = sorted(_MODULES)


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
