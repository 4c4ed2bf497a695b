"""Details of accounts for the web page, in addition to their pace: calls in the window of the limit, and rejections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from mira_queue.contract import names
from mira_queue.contract.known_fields import known_fields
from mira_queue.contract.outcome import Failure
from mira_queue.ledger.accounts import PaceView
from mira_queue.ledger.script_runner import ScriptRunner, decode, in_ms

_MODEL = "model:"


@dataclass(frozen=True, slots=True)
class AccountDetails:
    """Calls of the account in the last `window_ms`, which is the window of its learned rate limit, or two minutes.

    `rejections` are errors that calls would get, by the model; that of the key "" applies to every model.
    """

    window_ms: int
    calls: int
    rejections: Mapping[str, Failure] = field(default_factory=dict)


class AccountDetailsReader(ScriptRunner):
    """Operations of people who look at accounts."""

    def account_details(self, views: Sequence[PaceView]) -> list[AccountDetails]:
        """Return the details of these accounts, in their order, in one round trip."""
        windows = [view.estimate.rate.window_ms if view.estimate.rate else in_ms(names.CALL_HISTORY) for view in views]
        pipeline: Any = self._client.pipeline(transaction=False)
        for view, window_ms in zip(views, windows, strict=True):
            since = f"({view.now_ms - window_ms}"
            # See lib/window.lua: the member is the number of calls before it.
            pipeline.zrangebyscore(names.sent_key(view.account), since, "+inf", start=0, num=1)
            pipeline.hgetall(names.rejections_key(view.account))
        answers = iter(pipeline.execute())
        return [
            _details(view, window_ms, next(answers), next(answers))
            for view, window_ms in zip(views, windows, strict=True)
        ]


def _details(view: PaceView, window_ms: int, first: list[bytes], rejections: dict[bytes, bytes]) -> AccountDetails:
    calls = max(0, view.counts.sent - int(first[0])) if first else 0
    found = {decode(name): value.split(b" ", 2)[2] for name, value in rejections.items()}
    errors = {
        name.removeprefix(_MODEL) if name.startswith(_MODEL) else "": Failure(
            **known_fields(Failure, orjson.loads(error))
        )
        for name, error in found.items()
    }
    return AccountDetails(window_ms, calls, errors)
