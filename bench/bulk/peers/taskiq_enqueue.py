"""`python -m bench.bulk.peers.taskiq_enqueue COUNT`: print {"took_s": ..., "keys": [keys of the results]}."""

from __future__ import annotations

import asyncio
import json
import sys
import time

from bench.bulk.peers.taskiq_app import broker, chat


async def main(count: int) -> None:
    await broker.startup()
    bodies = [
        {"model": "mira", "messages": [{"role": "user", "content": f"Question {number}: what does the tide do?"}]}
        for number in range(count)
    ]
    began_s = time.monotonic()
    keys = [(await chat.kiq(body)).task_id for body in bodies]
    print(json.dumps({"took_s": time.monotonic() - began_s, "keys": keys}))
    await broker.shutdown()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
