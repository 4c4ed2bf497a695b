"""Command line of the simulator. An option sets one field of SimulatorConfig, and shares its help with it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import pairwise

import orjson
from pydantic import ValidationError

from mira_queue.simulator import faults
from mira_queue.simulator.config import PRESETS, SimulatorConfig, describe

# Option, field, value (none: a switch).
OPTIONS = (
    ("--rate", "rate", "N/SECONDS"),
    ("--limiter", "limiter", "KIND"),
    ("--burst", "burst", "N"),
    ("--tokens", "token_rate", "N/SECONDS"),
    ("--token-limiter", "token_limiter", "KIND"),
    ("--limit-model", "limited_models", "MODEL"),
    ("--other-calls", "other_calls", "N/s"),
    ("--other-calls-at", "other_calls_at", "TIMES"),
    ("--concurrency", "concurrency", "N"),
    ("--concurrency-retry-after", "concurrency_retry_after_s", "SECONDS"),
    ("--quota", "quota", "N"),
    ("--quota-retry-after", "quota_retry_after_s", "SECONDS"),
    ("--month-tokens", "month_tokens", "N"),
    ("--balance-calls", "balance_calls", "N"),
    ("--balance-tokens", "balance_tokens", "N"),
    ("--retry-after-form", "retry_after_form", "FORM"),
    ("--rate-headers", "rate_headers", "FORM"),
    ("--rate-headers-on", "rate_headers_on", "RESPONSES"),
    ("--key", "keys", "KEY"),
    ("--model", "models", "MODEL"),
    ("--latency", "latency_s", "SECONDS"),
    ("--fault", "faults", "KIND=PROBABILITY"),
    ("--outage", "outages", "AFTER:SECONDS:KIND"),
    ("--change", "changes", "AFTER:SETTING=VALUE"),
    ("--capacity", "capacity", "N"),
    ("--moderation-word", "moderation_words", "WORD"),
    ("--seed", "seed", "N"),
    ("--no-request-counts", "count_requests", ""),
)
REPEATED = ("keys", "models", "limited_models", "faults", "outages", "changes", "moderation_words")
DESCRIPTION = "A local Mira API. Without options, it has no limits and no faults. It prints its URL when it is ready."
EPILOG = f"""\
faults on request. {(faults.__doc__ or "").partition("Pure.")[2].strip()}

control endpoints, on the same port:
    GET  /sim/stats      counts: calls, answered, by_status, by_refusal, by_fault, in_flight, client_gone, accounts, and
                         early (calls that were sent before a Retry-After had passed)
    GET  /sim/requests   calls and answers of each request, by sha256 of its body without `stream` and by
                         its last user message
    GET  /sim/arrivals   when each of these messages came, and from which accounts (their names in /sim/stats)
    GET  /sim/recent     last user messages of the requests that are in flight, or were within the last second
    GET  /sim/calls      with the setting log_calls: when each call arrived and ended, and its outcome
    GET  /sim/config     the configuration; POST a JSON object to change some of it
    POST /sim/reset      reset counts, logs and balances
    POST /sim/outage     {{"seconds": 5, "kind": "503"}}; also 500; drop resets every connection, refuse accepts
                         none (connections that were used for /sim/ stay open)
"""


def parse_options(arguments: Sequence[str]) -> tuple[argparse.Namespace, SimulatorConfig]:
    """Return the options and the configuration that they set. Print one line and exit with code 2 if one is wrong."""
    # Of the command that starts this process: `--prog NAME`.
    prog = dict(pairwise(arguments)).get("--prog", "python -m mira_queue.simulator")
    parser = argparse.ArgumentParser(
        prog,
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--prog", help=argparse.SUPPRESS)
    add("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    add("--port", type=int, default=0, help="port (default: any free port)")
    add("--parent-pipe", action="store_true", help="exit when standard input ends, and so with the parent process")
    add(
        "--limits",
        choices=["none", *PRESETS],
        default="none",
        help="mira: behave as Mira's real backend, with 60 requests per 60 s and 3 in flight, and slots that leak; "
        "documented: the same limits, and otherwise as documented",
    )
    add("--scale", type=float, default=1.0, metavar="FACTOR", help="scale Mira's windows: 0.1 is 60 requests per 6 s")
    for option, field, metavar in OPTIONS:
        text, default = SimulatorConfig.model_fields[field].description, argparse.SUPPRESS
        if not metavar:
            add(option, dest=field, action="store_false", default=default, help=text)
        elif field in REPEATED:
            add(option, dest=field, metavar=metavar, action="append", default=default, help=f"{text}; can be repeated")
        else:
            add(option, dest=field, metavar=metavar, default=default, help=text)
    add("--config", default="{}", metavar="JSON", help="any setting by its name in GET /sim/config; overrides options")
    options = parser.parse_args(arguments)
    values = {name: value for name, value in vars(options).items() if name in SimulatorConfig.model_fields}
    preset = PRESETS[options.limits](options.scale) if options.limits in PRESETS else {}
    try:
        config = SimulatorConfig.model_validate(preset | values)
        return options, config.changed(orjson.loads(options.config))
    except ValidationError as error:
        parser.error(describe(error, {field: option for option, field, _ in OPTIONS}))
    except (orjson.JSONDecodeError, TypeError):
        parser.error("--config: expected a JSON object")
