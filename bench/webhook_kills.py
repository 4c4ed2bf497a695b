"""Webhooks while gateways are killed: `python -m bench.webhook_kills`.

Jobs finish, or stay open, at random. A gateway delivers the events of those that have finished. It is killed (SIGKILL)
and started again at random. The receiver takes 0.1 s for each delivery. At the end, every event must have arrived, and
none of a job that has not finished. The server, the gateway, and the receiver are real.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace

import orjson

from mira_queue import MiraQueue
from mira_queue.contract import names
from mira_queue.contract.webhook import new_signing_secret
from mira_queue.ledger.connection import connect
from mira_queue.ledger.records import Lease
from tests.support.gateway_process import started_gateway
from tests.support.ledger_steps import ACCOUNT, COMPLETION, claimed, new_job
from tests.support.raw_server import RawServer, Request, response
from tests.support.waiting import wait_until
from tests.support.webhook_receiver import LOCAL, receiver, unwrap

RESPONSE_S = 0.1
FINISHED_SHARE = 0.9
JOBS_PER_S = 40
# Shorter than the default, so that a delivery of a killed gateway is soon claimed again.
TIMEOUT_S = 2
PATIENCE_S = 300.0
KILL_AFTER_S = (2.5, 5.0)


def slowly(_: Request) -> bytes:
    time.sleep(RESPONSE_S)
    return response(200)


def delivered(server: RawServer) -> Counter[str]:
    """Return how often the event of each job has arrived."""
    return Counter(orjson.loads(request.body)["data"]["id"] for request in list(server.requests))


def finish_jobs(queue: MiraQueue, url: str, count: int, chance: random.Random) -> tuple[set[str], list[Lease]]:
    """Return the ids of jobs that have finished, and the leases of those that have not."""
    finished, still_open = set(), []
    for _ in range(count):
        job = replace(new_job(), webhook=url)
        queue.ledger.accept(ACCOUNT, [job])
        lease = claimed(queue.ledger, job.id)
        if chance.random() < FINISHED_SHARE:
            queue.ledger.finish(lease, COMPLETION)
            finished.add(job.id)
        else:
            still_open.append(lease)
        time.sleep(1 / JOBS_PER_S)
    return finished, still_open


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.webhook_kills", description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    chance = random.Random(options.seed)
    secret = new_signing_secret().get_secret_value()
    own = {"webhook_secret": secret, "webhook_hosts": ",".join(LOCAL), "webhook_timeout": TIMEOUT_S}
    kills = 0
    with (
        receiver(slowly) as server,
        started_gateway(workers=0, **own) as gateway,
        MiraQueue(gateway.settings) as queue,
        ThreadPoolExecutor(1) as threads,
        ExitStack() as stack,
    ):
        jobs = threads.submit(finish_jobs, queue, server.url, options.jobs, random.Random(options.seed))
        process = gateway.process
        while not jobs.done():
            time.sleep(chance.uniform(*KILL_AFTER_S))
            process.kill()
            process.wait()
            kills += 1
            log = gateway.cli.folder / "gateways.log"
            process = stack.enter_context(gateway.cli.start("serve", "--port", "0", "--workers", "0", log=log))
            stack.callback(process.kill)
        finished, still_open = jobs.result()
        wait_until("all events have arrived", lambda: delivered(server).keys() >= finished, PATIENCE_S)
        found = delivered(server)
        unwrap(server.requests[-1], secret)
        # At the end, nothing is left: these have events, too.
        for lease in still_open:
            queue.ledger.finish(lease, COMPLETION)
        client = stack.enter_context(connect(queue.redis_url))
        wait_until(
            "nothing is left", lambda: not client.exists(names.WEBHOOK_EVENTS, names.WEBHOOK_RECEIVERS), PATIENCE_S
        )
        process.terminate()
        process.wait()
    lost, invented = len(finished - found.keys()), len(found.keys() - finished)
    print(f"gateways killed               {kills}")
    print(f"events, arrived at least once {len(finished):,}, {len(finished) - lost:,}")
    print(f"arrived more than once        {sum(count > 1 for count in found.values())}")
    print(f"of jobs that did not finish   {invented}")
    return int(bool(lost or invented))


if __name__ == "__main__":
    sys.exit(main())
