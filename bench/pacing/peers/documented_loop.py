"""The retry loop of API documentation, in threads: on a 429, sleep for Retry-After, at most five calls."""

from __future__ import annotations

import itertools
import sys
import threading
import time

import requests

TRIES = 5


def ask_in_turn(url: str, key: str, numbers: itertools.count[int]) -> None:
    session = requests.Session()
    session.trust_env = False
    session.headers["Authorization"] = f"Bearer {key}"
    for number in numbers:
        body = {"model": "mira", "messages": [{"role": "user", "content": f"Question {number}"}]}
        for _ in range(TRIES):
            response = session.post(f"{url}/chat/completions", json=body, timeout=60)
            if response.status_code != 429:
                break
            time.sleep(float(response.headers["Retry-After"]))


def main(url: str, key: str, threads: str) -> None:
    numbers = itertools.count()
    for _ in range(int(threads)):
        threading.Thread(target=ask_in_turn, args=(url, key, numbers), daemon=True).start()
    # Wait until the parent process exits or stops this one.
    sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:4])
