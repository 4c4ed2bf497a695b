"""What a batch has come to: what its files say, and what has ended since they were read."""

from __future__ import annotations

import math
import time
from collections import Counter
from dataclasses import replace

import orjson

from mira_producer.batches.spool import BatchFiles
from mira_producer.cost.prices import Prices, load_prices
from mira_producer.cost.usage import Usage, usage_of_answer, usage_of_line
from mira_producer.engine.stats import NO_MODEL, OTHER_MODELS, Stats, code_of
from mira_producer.engine.wait_reason import NOTHING, Reason
from mira_producer.jsonl.remove_errors import complete_lines
from mira_producer.jsonl.result_line import calls_of_line, is_retryable
from mira_queue.contract.batch import Batch, Waiting
from mira_queue.contract.outcome import Failure

# Names of models come out of a file: beyond so many, they are counted together, and have no price.
MAX_NAMES = 1000


def prices_of(files: BatchFiles) -> Prices:
    """The price table that was submitted with it. Raises InputError."""
    return load_prices(files.prices) if files.prices.exists() else Prices()


def written(files: BatchFiles, prices: Prices) -> Stats:
    """All that stands in the files, counted; a line that has the answer of another one used nothing.

    Of an answer, the model that gave it has the price: the one that was asked for is not in the file.
    """
    # There is no time in it: the clock stands still.
    stats = Stats(0, 0, 0, prices, clock=lambda: 0.0)
    used: dict[str, Usage] = {}
    for line in complete_lines(files.output):
        entry = orjson.loads(line)
        stats.succeeded += 1
        if calls := calls_of_line(entry):
            body = (entry.get("response") or {}).get("body") or {}
            model = str(body.get("model") or NO_MODEL)
            model = model if model in used or len(used) < MAX_NAMES else OTHER_MODELS
            used[model] = used.get(model, Usage()) + usage_of_answer(body.get("usage") or {}, calls)
    for model, usage in used.items():
        stats.add_usage(usage.priced(prices, model), model)
    for line in complete_lines(files.errors):
        entry = orjson.loads(line)
        error, response = entry.get("error") or {}, entry.get("response") or {}
        stats.failed += 1
        stats.codes[code_of(Failure(str(error.get("code")), "", response.get("status_code")))] += 1
    return stats


def used(files: BatchFiles, prices: Prices) -> Usage:
    """What its files say that it has used of a budget, as the keeper will read them when it goes on."""
    entries = (orjson.loads(line) for path in (files.output, files.errors) for line in complete_lines(path))
    return sum((usage_of_line(entry, prices) for entry in entries if not is_retryable(entry)), Usage())


def counted(batch: Batch, before: Stats, now: Stats, unanswered_before: int, reason: Reason = NOTHING) -> Batch:
    """The batch with its counts: `before` is what its files held when it was taken up, `now` what has ended since."""
    going = now.succeeded + now.failed > 0
    wait_s = reason.wait.total_seconds()
    models = {*before.models, *now.models} - {NO_MODEL}
    left_s = now.seconds_left if going else None
    usage = before.usage + now.usage
    return replace(
        batch,
        total=now.total,
        answered=now.before + now.succeeded,
        failed=now.failed_before + now.failed,
        codes=dict((Counter(before.codes) + now.codes).most_common()),
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        cached_tokens=usage.cached_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        model=models.pop() if len(models) == 1 else "",
        cost=f"{usage.cost:f}" if now.prices else "",
        currency=now.prices.currency,
        unpriced=usage.unpriced if now.prices else 0,
        uncounted=usage.uncounted,
        unanswered_calls=unanswered_before + now.unanswered_calls,
        per_second_now=now.per_second_now if going else 0.0,
        per_second=now.per_second if going else 0.0,
        seconds_left=None if left_s is None else max(left_s, wait_s),
        waiting=Waiting(reason.kind, reason.words, math.ceil(time.time() + wait_s) if wait_s > 0 else 0),
    )


def at_rest(batch: Batch) -> Batch:
    """Nothing goes on: there is no rate, and no time left."""
    return replace(batch, per_second_now=0.0, per_second=0.0, seconds_left=None, waiting=Waiting(), held_models=())
