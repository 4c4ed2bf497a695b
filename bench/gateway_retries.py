"""Objects that are created while connections break: `python -m bench.gateway_retries`.

The official SDK, with its retries, creates responses, files, uploads, and batches through a network that cuts
connections at random moments: in requests, after them, and in responses. Gateway and server are real. The target is one
object for each create, which is the one that the client got.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import openai

from mira_queue import MiraQueue
from tests.support.cutting_proxy import CuttingProxy, RandomCuts
from tests.support.gateway_process import Gateway, started_gateway
from tests.support.simulator_process import SimulatorProcess
from tests.support.waiting import wait_until

CREATES = 1000
CUT_SHARE = 0.3
THREADS = 16
# With the SDK's default of 2, some creates fail after three cuts.
MAX_RETRIES = 10
MODEL = "mira-large"
ENDPOINT: Literal["/v1/chat/completions"] = "/v1/chat/completions"
BODY = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}]}


def response(client: openai.OpenAI, number: int) -> str:
    return client.responses.create(model=MODEL, input=f"question {number}", background=True).id


def file(client: openai.OpenAI, number: int) -> str:
    return client.files.create(file=(f"{number}.jsonl", b'{"n": %d}\n' % number * 100), purpose="batch").id


def upload(client: openai.OpenAI, number: int) -> str:
    return client.uploads.create(bytes=1000 + number, filename="a.jsonl", mime_type="text/jsonl", purpose="batch").id


def batch_of(input_file_id: str) -> Callable[[openai.OpenAI, int], str]:
    def batch(client: openai.OpenAI, number: int) -> str:
        created = client.batches.create(
            input_file_id=input_file_id, endpoint=ENDPOINT, completion_window="24h", metadata={"n": str(number)}
        )
        return created.id

    return batch


def existing(gateway: Gateway, client: openai.OpenAI) -> set[str]:
    """Return the ids of all objects of the gateway."""
    with MiraQueue(gateway.settings) as queue:
        jobs = {f"resp_{job_id.replace('-', '')}" for job_id in _single_jobs(queue)}
    uploads = {path.name for path in (gateway.state_dir / "uploads").glob("upload_*")}
    listed = {file.id for file in client.files.list(limit=10_000, purpose="batch")}
    return jobs | uploads | listed | {batch.id for batch in client.batches.list(limit=100)}


def _single_jobs(queue: MiraQueue) -> list[str]:
    ids = queue.ledger.open_jobs(queue.accounts.current.id)
    return [job.id for job in queue.ledger.statuses(ids) if job.project]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--creates", type=int, default=CREATES)
    parser.add_argument("--seed", type=int, default=8)
    parser.add_argument(
        "--pairs",
        action="store_true",
        help="two creates each have the same content (see gateway/retries)",
    )
    options = parser.parse_args(argv)
    network = RandomCuts(options.seed, CUT_SHARE)
    with (
        SimulatorProcess.start() as simulator,
        started_gateway(api_base=simulator.url, workers=0) as gateway,
        gateway.client() as direct,
        CuttingProxy(gateway.port, network.choose) as proxy,
        openai.OpenAI(base_url=proxy.url, api_key=gateway.key, max_retries=MAX_RETRIES) as client,
        ThreadPoolExecutor(THREADS) as pool,
    ):
        line = json.dumps({"custom_id": "a", "method": "POST", "url": ENDPOINT, "body": BODY}).encode() + b"\n"
        shared = direct.files.create(file=("input.jsonl", line), purpose="batch").id
        before = existing(gateway, direct)
        kinds = [response] * 10 + [file] * 6 + [upload] * 3 + [batch_of(shared)]
        started_s = time.monotonic()
        numbers = [n // 2 if options.pairs else n for n in range(options.creates)]
        done = [pool.submit(kinds[number % len(kinds)], client, number) for number in numbers]
        created = [each.result() for each in done]
        took_s = time.monotonic() - started_s
        objects = existing(gateway, direct) - before
        for batch in direct.batches.list(limit=100):
            direct.batches.cancel(batch.id)
        wait_until(
            "the batches have ended", lambda: all(batch.cancelled_at for batch in direct.batches.list(limit=100))
        )
    print(f"{options.creates:,} creates in {took_s:.0f} s: {proxy.requests:,} requests, {proxy.cuts:,} connections cut")
    for where, count in network.planned.items():
        print(f"  planned {where.value}: {count:,}")
    print(f"  objects: {len(objects):,} (target {options.creates:,})")
    print(f"  different objects that clients got: {len(set(created)):,}")
    print(f"  objects that no client got: {len(objects - set(created)):,}")
    is_good = len(objects) == options.creates and set(created) == objects
    print("ok" if is_good else "MISSED")
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
