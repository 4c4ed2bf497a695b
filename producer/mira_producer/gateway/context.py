"""The one object that all routes of a gateway share."""

from __future__ import annotations

from dataclasses import dataclass, field

from structlog.typing import FilteringBoundLogger

from mira_producer.client import MiraQueue
from mira_producer.gateway.access import Access
from mira_producer.gateway.files.batch_files import BatchFiles
from mira_producer.gateway.files.file_store import FileStore
from mira_producer.gateway.files.upload_store import UploadStore
from mira_producer.gateway.http.threads import FileThreads
from mira_producer.gateway.jobs.poll_forecast import PollForecast
from mira_producer.gateway.price_table import PriceTable
from mira_producer.gateway.retries.open_requests import OpenRequests
from mira_producer.page.live import LiveTopics
from mira_producer.page.session import Sessions
from mira_queue.contract.settings import Settings


@dataclass(frozen=True, slots=True)
class Context:
    """Objects that routes use. `hosts` are the names that a Host header may have, in addition to addresses."""

    queue: MiraQueue
    settings: Settings
    access: Access
    files: FileStore
    uploads: UploadStore
    batch_files: BatchFiles
    open_requests: OpenRequests
    forecast: PollForecast
    price_table: PriceTable
    hosts: frozenset[str]
    sessions: Sessions
    live: LiveTopics
    log: FilteringBoundLogger
    is_simulated: bool = False
    file_threads: FileThreads = field(default_factory=FileThreads)
