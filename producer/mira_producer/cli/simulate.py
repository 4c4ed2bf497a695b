"""`mira-queue simulate`: a Mira API of one's own, as a process."""

from __future__ import annotations

import os
import signal
import sys
from datetime import timedelta

import typer

from mira_producer.cli import console
from mira_producer.processes import StartError, simulator_command, start_simulator, stop

# Every option is the simulator's own, its help too.
CONTEXT = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}
STOP_WITHIN = timedelta(seconds=10)
# Of the form of a real key, which it accepts like any other.
EXAMPLE_KEY = "sk-mira-" + "0" * 40

HELP_END = ""


def simulate(context: typer.Context) -> None:
    """Run a Mira API of your own, to try things on."""
    as_ours = ("--prog", context.command_path)
    if {"-h", "--help"} & set(context.args):
        sys.stdout.flush()
        command = simulator_command(*as_ours, "--help")
        os.execv(command[0], command)
    # SIGTERM as Ctrl-C: the simulator is stopped, and collected.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        process, url = start_simulator([*as_ours, *context.args])
    except StartError as error:
        # It has said why on standard error.
        raise typer.Exit(error.exit_code) from None
    try:
        console.data(f"MIRA_API_BASE={url}")
        console.message(
            f"A Mira API of your own is ready, until Ctrl-C. To use it, in another terminal:\n"
            f"  export MIRA_API_BASE={url}\n"
            f"  export MIRA_API_KEY={EXAMPLE_KEY}\n"
            f"  mira-queue worker"
        )
        code = process.wait()
        console.error(f"the simulator ended by itself, exit code {code}")
        raise typer.Exit(console.EXIT_FAILED)
    except KeyboardInterrupt:
        return
    finally:
        stop(process, STOP_WITHIN)
