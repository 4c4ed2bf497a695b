"""Everything a person or a web app uses to hand in jobs and get their outcomes.

from mira_producer import MiraQueue

queue = MiraQueue()
job = queue.enqueue(messages=[{"role": "user", "content": "Hello"}])
print(job.result(timeout=60).text)
"""

from mira_producer.async_client import AsyncJob, AsyncMiraQueue
from mira_producer.batches.client import BatchRefused
from mira_producer.client import Job, MiraQueue
from mira_producer.jsonl.errors import InputError
from mira_queue.contract.batch import Batch, BatchOptions, BatchStatus
from mira_queue.contract.errors import (
    AccountFault,
    BatchNotFound,
    IdempotencyConflict,
    InvalidRequest,
    JobCancelled,
    JobError,
    JobFault,
    JobNotFound,
    MiraQueueError,
    QueueUnavailable,
    ResultTimeout,
    ServiceFault,
)
from mira_queue.contract.outcome import Completion, Failure, Outcome
from mira_queue.contract.settings import Settings, SettingsError
from mira_queue.contract.states import JobState, JobStatus
from mira_queue.runtime.settings_loader import load_settings

__all__ = [
    "AccountFault",
    "AsyncJob",
    "AsyncMiraQueue",
    "Batch",
    "BatchNotFound",
    "BatchOptions",
    "BatchRefused",
    "BatchStatus",
    "Completion",
    "Failure",
    "IdempotencyConflict",
    "InputError",
    "InvalidRequest",
    "Job",
    "JobCancelled",
    "JobError",
    "JobFault",
    "JobNotFound",
    "JobState",
    "JobStatus",
    "MiraQueue",
    "MiraQueueError",
    "Outcome",
    "QueueUnavailable",
    "ResultTimeout",
    "ServiceFault",
    "Settings",
    "SettingsError",
    "load_settings",
]
