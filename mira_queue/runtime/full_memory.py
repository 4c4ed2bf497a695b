"""Redis clients whose writes pass when the server's memory is full, so that accepted jobs can finish.

At `maxmemory`, a server rejects commands that may need memory. It checks a script only until its first write, because
it cannot undo half a script. A script that first deletes a key that does not exist is therefore allowed to write. Redis
7 has a flag for the same purpose (`allow-oom`), which Redis 6.2 does not know.

Only `accept` adds work, and it is rejected long before. All other writes belong to jobs that end and free memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import redis
from redis.client import Pipeline
from redis.commands.core import Script

from mira_queue.contract import names

# In front of a script. This one key is not in KEYS, because it never exists.
FIRST_WRITE = f"redis.call('DEL', '{names.NO_KEY}') "
# The write commands of ours and of Celery's transport that a full server rejects. The key is their first argument.
_NEEDS_MEMORY = frozenset({"HINCRBY", "HSET", "LPUSH", "RPUSH", "SADD", "SET", "ZADD"})
_ONE = FIRST_WRITE + "return redis.call(ARGV[1], KEYS[1], unpack(ARGV, 2))"
# A full server rejects every command of a MULTI, also one that frees memory. ARGV has for each command: the number of
# its parts, and these without the key.
_ALL = (
    FIRST_WRITE
    + """
local responses, at = {}, 1
for each, key in ipairs(KEYS) do
  responses[each] = redis.pcall(ARGV[at + 1], key, unpack(ARGV, at + 2, at + ARGV[at]))
  at = at + ARGV[at] + 1
end
return responses
"""
)

Command = tuple[Any, ...]


def _one(command: Command) -> Command:
    """Return a command that does the same, and that a full server allows."""
    if command[0] not in _NEEDS_MEMORY:
        return command
    name, key, *arguments = command
    return ("EVAL", _ONE, 1, key, name, *arguments)


def _all(commands: Sequence[Command]) -> Command:
    """Return one command that does what a transaction of commands does."""
    keys, arguments = [], []
    for name, key, *others in commands:
        keys.append(key)
        arguments += [1 + len(others), name, *others]
    return ("EVAL", _ALL, len(keys), *keys, *arguments)


class FullServerPipeline(Pipeline):
    """Pipeline of FullServerClient. Every command of a transaction has a key."""

    def execute_command(self, *args: Any, **options: Any) -> Any:
        command = args if self._is_one_script else _one(args)
        return super().execute_command(*command, **options)  # type: ignore[no-untyped-call]

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        if self.scripts:
            # Each is atomic, and a script cannot run another one.
            self.transaction = False  # type: ignore[assignment, method-assign]
        if not (self._is_one_script and self.command_stack):
            return super().execute(raise_on_error)
        commands, self.command_stack = self.command_stack, []
        calls = [args for args, _ in commands]
        try:
            responses: Any = self.immediate_execute_command(*_all(calls))  # type: ignore[no-untyped-call]
        finally:
            self.reset()
        for place, ((name, *_), options) in enumerate(commands):
            if isinstance(responses[place], Exception):
                if raise_on_error:
                    raise responses[place]
            elif name in self.response_callbacks:
                responses[place] = self.response_callbacks[name](responses[place], **options)
        return list(responses)

    @property
    def _is_one_script(self) -> bool:
        """Whether this is a transaction. One that watches keys stays one: a script would not see their changes."""
        is_transaction: Any = self.transaction
        return bool(is_transaction) and not self.watching and not self.explicit_transaction


class FullServerClient(redis.Redis):
    """Client that also writes to a server whose memory is full."""

    def execute_command(self, *args: Any, **options: Any) -> Any:
        return super().execute_command(*_one(args), **options)  # type: ignore[no-untyped-call]

    def register_script(self, script: Any) -> Script:
        return super().register_script(FIRST_WRITE + script)

    def pipeline(self, transaction: bool = True, shard_hint: Any = None) -> Pipeline:
        return FullServerPipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)
