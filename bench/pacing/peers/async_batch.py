"""async-batch-llm with a configured concurrency. Its pauses follow the server's Retry-After.

By default it pauses for five minutes regardless of Retry-After and then waits two seconds between calls. On an account
of this scale, a run would show nothing else.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading

from async_batch_llm import ProcessorConfig, RateLimitConfig, llm, process_stream

PROMPTS = 20_000


async def ask_all(url: str, key: str, concurrency: int) -> None:
    config = ProcessorConfig(
        concurrency=concurrency,
        rate_limit=RateLimitConfig(cooldown_seconds=0.0, slow_start_items=0, backoff_multiplier=1.0),
    )
    strategy = llm("openai-compatible:mira", base_url=url, api_key=key)
    async for _ in process_stream(strategy, [f"Question {number}" for number in range(PROMPTS)], config=config):
        pass


def main(url: str, key: str, concurrency: str) -> None:
    logging.disable(logging.CRITICAL)
    work = asyncio.run
    threading.Thread(target=lambda: work(ask_all(url, key, int(concurrency))), daemon=True).start()
    # Wait until the parent process exits or stops this one.
    sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:4])
