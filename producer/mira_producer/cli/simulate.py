"""`mira-queue simulate`: a local Mira API, as a process."""

from __future__ import annotations

import os
import signal
import sys
from datetime import timedelta

import typer

from mira_producer.cli import console
from mira_producer.cli.own_simulator import SIMULATED_KEY
from mira_producer.processes import StartError, simulator_command, start_simulator, stop

# The simulator parses its options and prints its help itself.
CONTEXT = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}
GRACE = timedelta(seconds=10)

HELP_END = ""


def simulate(context: typer.Context) -> None:
    """Run a local Mira API for trials and tests."""
    named = ("--prog", context.command_path)
    if {"-h", "--help"} & set(context.args):
        sys.stdout.flush()
        command = simulator_command(*named, "--help")
        os.execv(command[0], command)
    # Handle SIGTERM like Ctrl-C: stop the simulator, then exit.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        process, url = start_simulator([*named, *context.args])
    except StartError as error:
        # The simulator has printed the error.
        raise typer.Exit(error.exit_code) from None
    try:
        console.data(f"MIRA_API_BASE={url}")
        console.message(
            f"A local Mira API is ready. Ctrl-C stops it. To use it, run in another terminal:\n"
            f"  export MIRA_API_BASE={url}\n"
            f"  export MIRA_API_KEY={_key_of(context.args)}\n"
            f"  mira-queue worker"
        )
        code = process.wait()
        console.error(f"the simulator has exited with code {code}")
        raise typer.Exit(console.EXIT_FAILED)
    except KeyboardInterrupt:
        return
    finally:
        stop(process, GRACE)


def _key_of(arguments: list[str]) -> str:
    """Return a key that the simulator accepts: the first --key, or any key."""
    for place, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name == "--key":
            return value if equals else arguments[place + 1]
    return SIMULATED_KEY
