"""One attempt to deliver an event: a signed POST, without redirects, proxies, or cookies."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Self

import aiohttp
from pydantic import SecretStr
from standardwebhooks.webhooks import Webhook

from mira_producer.webhooks.addresses import PublicAddresses
from mira_queue.contract.delivery import Attempt
from mira_queue.contract.unicode import printable
from mira_queue.contract.webhook import checked_url

USER_AGENT = "mira-queue-webhooks"
MAX_ERROR = 200


def signed_headers(event_id: str, body: bytes, secrets: Sequence[SecretStr], now_s: float) -> dict[str, str]:
    """Return the headers of a delivery: one signature for each secret."""
    at = datetime.fromtimestamp(int(now_s), UTC)
    signatures = [Webhook(secret.get_secret_value()).sign(event_id, at, body.decode()) for secret in secrets]
    return {
        "content-type": "application/json",
        "user-agent": USER_AGENT,
        "webhook-id": event_id,
        "webhook-timestamp": str(int(now_s)),
        "webhook-signature": " ".join(signatures),
    }


class Sender:
    """HTTP client for deliveries. Use it in one event loop, with `async with`."""

    def __init__(self, private_hosts: Collection[str], timeout: timedelta) -> None:
        self._private_hosts = private_hosts
        self._timeout = aiohttp.ClientTimeout(total=timeout.total_seconds())

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(
            resolver=PublicAddresses(self._private_hosts),
            # Each attempt resolves the name and connects. A connection that is used again has skipped the check.
            use_dns_cache=False,
            force_close=True,
            limit=0,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=self._timeout,
            trust_env=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def send(self, url: str, event_id: str, body: bytes, secrets: Sequence[SecretStr]) -> Attempt:
        """Make one attempt. No error of the receiver or of the network is raised."""
        if not secrets:
            return Attempt(error="no secret to sign with: set MIRA_WEBHOOK_SECRET for the gateway")
        try:
            # Again: the operator may have changed the settings. An address in the URL is not resolved.
            checked_url(url, self._private_hosts)
            headers = signed_headers(event_id, body, secrets, time.time())
            async with self._session.post(url, data=body, headers=headers, allow_redirects=False) as response:
                return Attempt(response.status, _retry_after(response.headers.get("retry-after")))
        except TimeoutError:
            return Attempt(error=f"no response within {self._timeout.total:g} s")
        except aiohttp.ClientConnectorError as error:
            return _failed(error.os_error)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return _failed(error)


def _failed(error: Exception) -> Attempt:
    return Attempt(error=printable(str(error) or type(error).__name__)[:MAX_ERROR])


def _retry_after(header: str | None) -> timedelta | None:
    """Return the wait that a receiver asks for, in seconds or as a date; None if there is none that can be read."""
    if not header:
        return None
    try:
        if header.strip().isdecimal():
            return timedelta(seconds=min(int(header[:10]), 10**9))
        return max(timedelta(0), parsedate_to_datetime(header) - datetime.now(UTC))
    except (ValueError, TypeError, OverflowError):
        return None
