"""`python -m bench.bulk.peers.stock_enqueue COUNT`: print {"took_s": ..., "keys": [keys of the results]}."""

from __future__ import annotations

import json
import sys
import time

from bench.bulk.peers.stock_app import app, chat


def main(count: int) -> None:
    bodies = [
        {"model": "mira", "messages": [{"role": "user", "content": f"Question {number}: what does the tide do?"}]}
        for number in range(count)
    ]
    began_s = time.monotonic()
    keys = [app.backend.get_key_for_task(chat.delay(body).id).decode() for body in bodies]
    print(json.dumps({"took_s": time.monotonic() - began_s, "keys": keys}))


if __name__ == "__main__":
    main(int(sys.argv[1]))
