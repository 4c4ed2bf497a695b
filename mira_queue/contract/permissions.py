"""Permissions that mira-queue needs on the queue's server: the rules for its user, and all that it does there."""

from __future__ import annotations

from mira_queue.contract import names

# Commands of the ledger's scripts, of the ledger itself, and of Celery's transport. None of them is ever executed.
KEY_COMMANDS = (
    "BRPOP {key} 1",
    "BLPOP {key} 1",
    "DEL {key}",
    "EXISTS {key}",
    "EXPIRE {key} 1",
    "GET {key}",
    "HDEL {key} x",
    "HEXISTS {key} x",
    "HGET {key} x",
    "HGETALL {key}",
    "HINCRBY {key} x 1",
    "HINCRBYFLOAT {key} x 1",
    "HLEN {key}",
    "HMGET {key} x",
    "HSET {key} x x",
    "HSETNX {key} x x",
    "LINDEX {key} 0",
    "LLEN {key}",
    "LPOP {key}",
    "LPUSH {key} x",
    "LRANGE {key} 0 0",
    "LREM {key} 0 x",
    "LSET {key} 0 x",
    "LTRIM {key} 0 0",
    "MGET {key}",
    "PERSIST {key}",
    "PEXPIRE {key} 1",
    "PTTL {key}",
    "RENAMENX {key} {key}",
    "RPOP {key}",
    "RPUSH {key} x",
    "SADD {key} x",
    "SCARD {key}",
    "SET {key} x",
    "SETNX {key} x",
    "SMEMBERS {key}",
    "SREM {key} x",
    "TTL {key}",
    "ZADD {key} 1 x",
    "ZCARD {key}",
    "ZCOUNT {key} 0 0",
    "ZRANGE {key} 0 0",
    "ZRANGEBYSCORE {key} 0 0",
    "ZREM {key} x",
    "ZREMRANGEBYRANK {key} 0 0",
    "ZREMRANGEBYSCORE {key} 0 0",
    "ZREVRANGE {key} 0 0",
    "ZREVRANGEBYSCORE {key} 0 0",
    "ZSCAN {key} 0",
    "ZSCORE {key} x",
    "EVAL x 1 {key}",
    "EVALSHA x 1 {key}",
)
OTHER_COMMANDS = ("PING", "TIME", "INFO", "WAIT 1 1", "SCRIPT LOAD x")

_ID = "check"
OWN_KEYS = (
    names.leased_key(_ID),
    names.queued_key(_ID, names.Lane.NORMAL),
    names.job_key(_ID),
    names.WRITE_CHECK,
    names.SCHEMA_KEY,
    names.API_KEYS,
    names.CLOCK,
    names.NO_KEY,
    names.result_key(_ID),
)
# Those of Celery's transport: queues, bindings, unacknowledged messages, and the mailbox of `celery inspect`.
CELERY_KEYS = (
    *(names.messages_key(_ID, lane) for lane in names.Lane),
    f"_kombu.binding.{names.queue_name(_ID, names.QUEUE)}",
    "unacked",
    "unacked_index",
    "unacked_mutex",
    "mira-check@host.celery.pidbox",
    "mira-check@host.celery.pidbox\x06\x163",
    "check.reply.celery.pidbox",
)


def celery_channel(db: int) -> str:
    """Return the channel on which workers receive commands of `celery inspect` and `celery control`."""
    return f"/{db}.celery.pidbox"


def channels(db: int) -> tuple[str, ...]:
    """Return a channel of each kind."""
    return names.HOLDS_CHANNEL, names.wake_channel(_ID, _ID), names.result_key(_ID), celery_channel(db)


def acl_rules(db: int = 0) -> str:
    """Return the rules of a user that may do what mira-queue does, and nothing else.

    The rule of a channel with a pattern subscription must be the name itself.
    """
    keys = "~mira* ~celery-task-meta-* ~_kombu.* ~unacked* ~*.celery.pidbox*"
    pubsub = f"&mira:* &celery-task-meta-* &{celery_channel(db)} &/{db}.celeryev/*"
    return (
        f"{keys} {pubsub} +@read +@write +@pubsub +@scripting +@transaction +@connection -@dangerous +time +info +wait"
    )


ACL_ADVICE = f"on the server, run ACL SETUSER NAME {acl_rules()}"


def needed(db: int) -> list[tuple[str, ...]]:
    """Return every command with its words, and every key and channel with some command."""
    key = names.HOLDS
    commands = [command.format(key=key) for command in KEY_COMMANDS] + list(OTHER_COMMANDS)
    commands += [
        command.format(key=each) for each in (*OWN_KEYS, *CELERY_KEYS) for command in ("GET {key}", "DEL {key}")
    ]
    for channel in channels(db):
        commands += [f"PUBLISH {channel} x", f"SUBSCRIBE {channel}", f"UNSUBSCRIBE {channel}"]
    commands += [f"PSUBSCRIBE {celery_channel(db)}", f"PUNSUBSCRIBE {celery_channel(db)}"]
    return [tuple(command.split(" ")) for command in commands]
