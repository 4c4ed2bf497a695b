"""An API that answers each prompt with its own name and the prompt, and records which key each prompt came with."""

from __future__ import annotations

import socket
import threading
from typing import Self

import orjson

from tests.support.raw_server import RawServer, Request, response


class EchoApi(RawServer):
    """`with EchoApi("A") as api:` answers "A: Hello". While `hold` is called and not `release`, it does not respond."""

    def __init__(self, name: str) -> None:
        super().__init__(self._echo)
        self._name = name
        self._answers = threading.Event()
        self._answers.set()

    def __enter__(self) -> Self:
        super().__enter__()
        return self

    def hold(self) -> None:
        self._answers.clear()

    def release(self) -> None:
        self._answers.set()

    @property
    def calls(self) -> list[tuple[str, str]]:
        """The key and the prompt of each request."""
        return [
            (request.headers["authorization"].removeprefix("Bearer "), _prompt(request)) for request in self.requests
        ]

    @property
    def prompts(self) -> list[str]:
        return sorted(prompt for _, prompt in self.calls)

    def _echo(self, request: Request, connection: socket.socket) -> None:
        self._answers.wait()
        message = {"role": "assistant", "content": f"{self._name}: {_prompt(request)}"}
        body = orjson.dumps({"choices": [{"message": message, "finish_reason": "stop"}]})
        connection.sendall(response(200, body, "Content-Type: application/json"))


def _prompt(request: Request) -> str:
    return str(orjson.loads(request.body)["messages"][-1]["content"])
