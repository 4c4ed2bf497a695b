# The public names, for type checkers and for __init__.py. One import for each module, not one line for each name.
# isort: off
# fmt: off
from mira_producer.async_client import (
    AsyncBatches as AsyncBatches, AsyncJob as AsyncJob, AsyncMiraQueue as AsyncMiraQueue,
)
from mira_producer.batches.client import Batches as Batches, BatchRefused as BatchRefused
from mira_producer.client import Job as Job, MiraQueue as MiraQueue
from mira_producer.jsonl.errors import InputError as InputError
from mira_queue.contract.batch import Batch as Batch, BatchOptions as BatchOptions, BatchStatus as BatchStatus
from mira_queue.contract.errors import (
    AccountConflict as AccountConflict,
    AccountFault as AccountFault, BadRequest as BadRequest, BalanceUsedUp as BalanceUsedUp,
    BatchNotFound as BatchNotFound, ContentBlocked as ContentBlocked, Forbidden as Forbidden, Gone as Gone,
    IdempotencyConflict as IdempotencyConflict, InternalError as InternalError, InvalidKey as InvalidKey,
    InvalidRequest as InvalidRequest, InvalidResponse as InvalidResponse, JobCancelled as JobCancelled,
    JobError as JobError, JobExpired as JobExpired, JobFault as JobFault, JobNotFound as JobNotFound,
    MiraQueueError as MiraQueueError, ModelNotInPlan as ModelNotInPlan, NeverAdmitted as NeverAdmitted,
    NewerLedger as NewerLedger, NotFound as NotFound, Poison as Poison, QueueUnavailable as QueueUnavailable,
    QueueUnusable as QueueUnusable,
    Redirected as Redirected, RequestRejected as RequestRejected, ResultTimeout as ResultTimeout,
    ServerError as ServerError, ServerTimeout as ServerTimeout, ServiceFault as ServiceFault, TooLarge as TooLarge,
    UnknownAccount as UnknownAccount, Unprocessable as Unprocessable, Unreachable as Unreachable,
)
from mira_queue.contract.job_options import Priority as Priority
from mira_queue.contract.outcome import Completion as Completion, Failure as Failure, Outcome as Outcome
from mira_queue.contract.settings import Settings as Settings, SettingsError as SettingsError
from mira_queue.contract.states import JobState as JobState, JobStatus as JobStatus
from mira_queue.runtime.settings_loader import load_settings as load_settings

__all__: list[str]
__version__: str
