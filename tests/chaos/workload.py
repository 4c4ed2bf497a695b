"""Jobs of a run: the request of job number n and its expected outcome. Pure: producers and accounting share it."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from pathlib import Path

import orjson

from tests.chaos.options import ChaosOptions

# Per thousand jobs: the number of jobs with this directive for the simulator, the calls that such a job needs (without
# those that get a 429), and whether it succeeds.
_DIRECTIVES = (
    (10, " [[sim:503x1]]", 2, True),
    (5, " [[sim:500x2]]", 3, True),
    (5, " [[sim:resetx1]]", 2, True),
    (5, " [[sim:truncatex1]]", 2, True),
    (5, " [[sim:notjsonx1]]", 2, True),
    (2, " [[sim:429x1 retry-after=0.3]]", 1, True),
    (10, " [[sim:slow=0.5]]", 1, True),
    (5, " [[sim:earlyhintsx1 late=0.3]]", 1, True),
    (15, " [[sim:400]]", 1, False),
    (10, " [[sim:moderation]]", 1, False),
)
# Jobs from this number on are not counted. They keep every worker busy for the liveness check.
LIVENESS_JOBS = 1_000_000_000
LIVENESS_CALL_S = 4


_NUMBER = re.compile(r"job (\d+)\b")


@dataclass(frozen=True, slots=True)
class ChaosJob:
    """One job. Its `content` is unique, so that the simulator's counts can be assigned to it."""

    number: int
    content: str
    calls: int
    succeeds: bool


def job(seed: int, number: int) -> ChaosJob:
    """Return job number `number` of the runs with this seed."""
    if number >= LIVENESS_JOBS:
        return ChaosJob(number, f"job {number} [[sim:slow={LIVENESS_CALL_S}]]", 1, True)
    draw = random.Random(f"{seed}:{number}").randrange(1000)
    for share, directive, calls, succeeds in _DIRECTIVES:
        if draw < share:
            return ChaosJob(number, f"job {number}{directive}", calls, succeeds)
        draw -= share
    return ChaosJob(number, f"job {number}", 1, True)


def number_of(content: str) -> int:
    """Return the number of the job with this content; -1 if there is none."""
    match = _NUMBER.match(content)
    return int(match[1]) if match else -1


def account_of(options: ChaosOptions, number: int) -> int:
    """Return the account of a job. Every producer, both kinds of batch, and the liveness check use all accounts."""
    for batch, numbers in enumerate(batch_numbers(options)):
        if number in numbers:
            return batch_account(options, batch)
    return single_account(number, options.producers, options.accounts)


def single_account(number: int, producers: int, accounts: int) -> int:
    return number // producers % accounts


def batch_account(options: ChaosOptions, batch: int) -> int:
    # Every second batch is submitted, and the others run in the foreground.
    return (batch + batch // 2) % options.accounts


def messages(content: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": content}]


def single_numbers(options: ChaosOptions, producer: int) -> range:
    """Return the numbers of the jobs that one producer enqueues."""
    return range(producer, options.single_jobs, options.producers)


def custom_id(number: int) -> str:
    return f"line-{number}"


def batch_numbers(options: ChaosOptions) -> list[range]:
    """Return the numbers of the jobs of each batch file, one per line."""
    first, lines, files = options.single_jobs, options.batch_lines, options.batch_files
    return [range(first + lines * i // files, first + lines * (i + 1) // files) for i in range(files)] if lines else []


def write_batch_file(path: Path, seed: int, numbers: range) -> None:
    with path.open("wb") as file:
        for number in numbers:
            body = {"messages": messages(job(seed, number).content)}
            file.write(orjson.dumps({"custom_id": custom_id(number), "body": body}, option=orjson.OPT_APPEND_NEWLINE))
