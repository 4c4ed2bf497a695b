"""The commands, and the one place where an error becomes a line and an exit code."""

from __future__ import annotations

import gc
import sys
import traceback
from itertools import takewhile
from typing import Annotated

import typer

from mira_producer.cli import (
    accounts,
    batches,
    cancel_retry,
    config,
    console,
    doctor,
    enqueue,
    jobs,
    keys,
    limits,
    metrics,
    result,
    results,
    run,
    serve,
    simulate,
    status,
    submit,
    validate,
    verify,
    webhooks,
    worker,
)
from mira_producer.cli.problems import error_lines
from mira_producer.jsonl.errors import InputError, InvalidInput
from mira_producer.processes import StartError
from mira_queue import __version__
from mira_queue.contract.errors import (
    IdempotencyConflict,
    InvalidRequest,
    MiraQueueError,
    ResultTimeout,
    UnknownAccount,
)
from mira_queue.contract.settings import SettingsError
from mira_queue.ledger.embedded import EmbeddedServerError
from mira_queue.runtime.private_files import restrict_umask

DEBUG = "--debug"

app = typer.Typer(
    name=console.PROGRAM,
    # Plain help reads the same on a terminal, in a pipe and in a document.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)

# One line for each command, in the order of the help.
app.command("run", epilog=run.HELP_END)(run.run)
app.command("submit", epilog=submit.HELP_END)(submit.submit)
app.command("batches", epilog=batches.LIST_HELP_END)(batches.batches)
app.command("results", epilog=results.HELP_END)(results.results)
app.command("report", epilog=results.REPORT_HELP_END)(results.report)
app.command("pause", epilog=batches.PAUSE_HELP_END)(batches.pause)
app.command("resume", epilog=batches.RESUME_HELP_END)(batches.resume)
app.command("validate", epilog=validate.HELP_END)(validate.validate)
app.command("verify", epilog=verify.HELP_END)(verify.verify)
app.command("enqueue", epilog=enqueue.HELP_END)(enqueue.enqueue)
app.command("jobs", epilog=jobs.HELP_END)(jobs.jobs)
app.command("status", epilog=status.HELP_END)(status.status)
app.command("result", epilog=result.HELP_END)(result.result)
app.command("cancel", epilog=cancel_retry.CANCEL_HELP_END)(cancel_retry.cancel)
app.command("retry", epilog=cancel_retry.RETRY_HELP_END)(cancel_retry.retry)
app.add_typer(accounts.app, name="accounts")
app.command("limits", epilog=limits.HELP_END)(limits.limits)
app.command("metrics", epilog=metrics.HELP_END)(metrics.metrics)
app.command("worker", epilog=worker.HELP_END)(worker.worker)
app.command("serve", epilog=serve.HELP_END)(serve.serve)
app.add_typer(keys.app, name="keys")
app.add_typer(webhooks.app, name="webhooks")
app.command("simulate", epilog=simulate.HELP_END, context_settings=simulate.CONTEXT)(simulate.simulate)
app.command("config", epilog=config.HELP_END)(config.config)
app.command("doctor", epilog=doctor.HELP_END)(doctor.doctor)


def _print_version(wanted: bool) -> None:
    if wanted:
        console.data(f"{console.PROGRAM} {__version__}")
        raise typer.Exit


@app.callback(
    invoke_without_command=True,
    epilog=console.help_end(
        [
            ("mira-queue simulate", "try it without a key: run a local Mira API in one terminal"),
            ("mira-queue worker", "run jobs, in a second one"),
            ("mira-queue enqueue --wait 'Why is the sky blue?'", "get one answer through the queue"),
            ("mira-queue doctor", "find out what is missing, and what to do"),
        ],
        {0: "done", 1: "failed; the message says why", 2: "wrong usage, input or setting", 130: "interrupted (Ctrl-C)"},
    ),
)
def mira_queue(
    context: typer.Context,
    show_version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option(DEBUG, help="Show the traceback of an error.")] = False,
) -> None:
    """Durable job queue for chat completions on the Mira API, or on any OpenAI-compatible API.

    Accepted jobs survive every crash. Rate limits and outages are waited out. Settings come from MIRA_* variables and
    from the file .env in the working directory. `mira-queue config` explains them.
    """
    if context.invoked_subcommand is None:
        console.data(context.get_help())


def main() -> None:
    """Run the command. Errors become a line and an exit code; --debug adds the traceback."""
    restrict_umask()
    code = _exit_code()
    # Otherwise, Python frees every object one by one before it exits, which takes up to two seconds on a busy machine.
    gc.freeze()
    sys.exit(code)


def _exit_code() -> int:
    try:
        code = app(prog_name=console.PROGRAM, standalone_mode=False)
        sys.stdout.flush()
    except (KeyboardInterrupt, typer.Abort):
        return console.EXIT_INTERRUPTED
    # Every exception: only users who ask for a traceback get one.
    except Exception as error:  # noqa: BLE001
        if DEBUG in takewhile(lambda word: word.startswith("-"), sys.argv[1:]):
            traceback.print_exc()
        lines, code = _explain(error)
        for line in lines:
            console.error(line)
    return code if isinstance(code, int) else console.EXIT_OK


def _explain(error: Exception) -> tuple[list[str], int]:
    """Return the lines for an error, and the exit code."""
    match error:
        case InvalidInput():
            return error_lines(error), console.EXIT_USAGE
        case SettingsError() | InputError() | InvalidRequest() | IdempotencyConflict() | UnknownAccount():
            return str(error).splitlines(), console.EXIT_USAGE
        case ResultTimeout():
            return [str(error)], console.EXIT_NOT_ENDED
        case MiraQueueError() | EmbeddedServerError() | StartError():
            return [str(error)], console.EXIT_FAILED
        case typer.TyperException():
            context = getattr(error, "ctx", None)
            command = context.command_path if context else console.PROGRAM
            return [f"{console.one_line(error.format_message())} (see {command} --help)"], error.exit_code
        case OSError() if error.strerror:
            return [f"{error.filename}: {error.strerror}" if error.filename else error.strerror], console.EXIT_FAILED
    text = f"unexpected {type(error).__name__}: {console.one_line(str(error))}"
    return [f"{text} (for details: {console.PROGRAM} {DEBUG} ...)"], console.EXIT_FAILED
