"""The command line of the simulator, in one place: `python -m mira_queue.simulator` and what starts it share it."""

from __future__ import annotations

import argparse
from typing import Any

import orjson
from pydantic import ValidationError

from mira_queue.simulator import faults
from mira_queue.simulator.config import SimulatorConfig, mira_limits

EPILOG = f"""\
faults that a request asks for itself. {(faults.__doc__ or "").partition("Pure.")[2].strip()}

while it runs, on the same port:
    GET  /sim/stats      counts: calls, answered, by_status, by_refusal, by_fault, in_flight, early (calls before a
                         promised Retry-After had passed), client_gone, accounts
    GET  /sim/requests   calls and answers of each request, by sha256 of its body and by its last user message
    GET  /sim/recent     the last user messages of requests that are under way, or were within the last second
    GET  /sim/calls      with the setting log_calls: when each call came and went, and what became of it
    GET  /sim/config     the configuration; POST a JSON object to change some of it
    POST /sim/reset      forget counts, logs and balances
    POST /sim/outage     {{"seconds": 5, "kind": "503"}}; drop resets every call, refuse accepts no connections
                         (those that /sim/ was asked over stay open)
"""


class OptionError(ValueError):
    """An option has a wrong value; the message is one line."""


def build_parser(prog: str | None = None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog or "python -m mira_queue.simulator",
        description="A Mira API of one's own; limits and faults only when told so. Prints `ready URL` when it listens.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address to listen at (default: %(default)s)")
    add("--port", type=int, default=0, help="port; 0: any that is free (default)")
    add("--parent-pipe", action="store_true", help="end when standard input does, so that it dies with its parent")
    add("--prog", help=argparse.SUPPRESS)
    add(
        "--limits",
        choices=["none", "mira"],
        default="none",
        help="mira: 60 requests in 60 s, 3 in flight (default: none)",
    )
    add("--scale", type=float, default=1.0, metavar="FACTOR", help="shrink Mira's windows: 0.1 is 60 requests in 6 s")
    add("--rate", metavar="N/SECONDS", help="requests in any window, as 60/60")
    add("--concurrency", type=int, metavar="N", help="requests in flight")
    add("--concurrency-retry-after", type=float, metavar="SECONDS", help="Retry-After of it (default: 5)")
    add("--quota", type=int, metavar="N", help="requests a day")
    add("--quota-retry-after", type=float, metavar="SECONDS", help="Retry-After of it (default: 3600)")
    add("--balance-calls", type=int, metavar="N", help="answers that are paid for, then 402")
    add("--balance-tokens", type=int, metavar="N", help="tokens that are paid for, then 402")
    add("--retry-after-form", metavar="FORM", help="auto, integer, fraction, date, missing, absurd or negative")
    add("--key", action="append", metavar="KEY", help="accept this key, and no others (several times)")
    add("--model", action="append", metavar="MODEL", help="serve this model, and no others (several times)")
    add("--latency", metavar="SECONDS", help="time to an answer: 0.2, or 1-3")
    add(
        "--fault",
        action="append",
        default=[],
        metavar="KIND=RATE",
        help="chance of a fault, as 503=0.01 (several times)",
    )
    add(
        "--outage",
        action="append",
        default=[],
        metavar="AFTER:SECONDS:KIND",
        help="as 10:5:drop; kinds 503, drop, refuse",
    )
    add("--capacity", type=int, metavar="N", help="calls worked on at once for all accounts; more are refused as busy")
    add("--moderation-word", action="append", metavar="WORD", help="block content with this word (several times)")
    add("--seed", type=int, metavar="N", help="seed of faults and latencies (default: 0)")
    add(
        "--no-request-counts", action="store_true", help="do not count single requests: memory stays flat over millions"
    )
    add(
        "--config",
        default="{}",
        metavar="JSON",
        help="any setting by its name, as in GET /sim/config; wins over options",
    )
    return parser


def config_from(options: argparse.Namespace) -> SimulatorConfig:
    """The configuration that the options say, or an OptionError."""
    settings: dict[str, Any] = mira_limits(options.scale) if options.limits == "mira" else {}
    if options.rate is not None:
        rate, slash, window = options.rate.partition("/")
        if not slash:
            raise OptionError(f"--rate {options.rate}: N/SECONDS was expected, as 60/60")
        settings |= {"rate": rate, "rate_window_s": window}
    single = {
        "concurrency": options.concurrency,
        "concurrency_retry_after_s": options.concurrency_retry_after,
        "quota": options.quota,
        "quota_retry_after_s": options.quota_retry_after,
        "balance_calls": options.balance_calls,
        "balance_tokens": options.balance_tokens,
        "retry_after_form": options.retry_after_form,
        "keys": options.key,
        "latency_s": options.latency,
        "capacity": options.capacity,
        "moderation_words": options.moderation_word,
        "seed": options.seed,
        "count_requests": False if options.no_request_counts else None,
    }
    settings |= {name: value for name, value in single.items() if value is not None}
    if options.model:
        settings |= {"models": options.model, "plans": {"max": options.model}}
    settings["faults"] = dict(_pair(text) for text in options.fault)
    settings["outages"] = [_outage(text) for text in options.outage]
    try:
        config = SimulatorConfig.model_validate(settings)
        return config.changed(orjson.loads(options.config))
    except ValidationError as error:
        lines = (f"{'.'.join(map(str, e['loc'])) or 'config'}: {e['msg']}" for e in error.errors(include_url=False))
        raise OptionError("; ".join(lines)) from error
    except (orjson.JSONDecodeError, TypeError) as error:
        raise OptionError("--config: a JSON object was expected") from error


def _pair(text: str) -> tuple[str, str]:
    kind, equals, rate = text.partition("=")
    if not equals:
        raise OptionError(f"--fault {text}: KIND=RATE was expected, as 503=0.01")
    return kind, rate


def _outage(text: str) -> dict[str, str]:
    parts = text.split(":")
    if len(parts) != 3:
        raise OptionError(f"--outage {text}: AFTER:SECONDS:KIND was expected, as 10:5:drop")
    return dict(zip(("after_s", "seconds", "kind"), parts, strict=True))
