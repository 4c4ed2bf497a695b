"""`mira-queue verify`: every line of an input answered exactly once, or which are not."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mira_producer.cli import console
from mira_producer.cli.outcome import Json
from mira_producer.jsonl.errors import InputError
from mira_producer.jsonl.reader import refuse_no_file
from mira_producer.jsonl.verify import Verdict
from mira_producer.jsonl.verify import verify as verify_files
from mira_producer.text import plural

HELP_END = console.help_end(
    [
        ("mira-queue verify prompts.jsonl prompts.answers.jsonl prompts.errors.jsonl", "answers and errors"),
        ("mira-queue verify prompts.jsonl answers.jsonl --json", "for a script"),
    ],
    {
        0: "every line of the input has exactly one line in the output or the error file",
        1: "some have none, or several, or there are lines of another input",
        2: "wrong usage, or an input that cannot be used",
    },
)


def verify(
    input_path: Annotated[Path, typer.Argument(metavar="INPUT", help="What was asked.")],
    output_path: Annotated[Path, typer.Argument(metavar="OUTPUT", help="The answers.")],
    errors_path: Annotated[Path | None, typer.Argument(metavar="[ERRORS]", help="The lines that failed.")] = None,
    json: Json = False,
) -> None:
    """Check that every line has one answer.

    Each line of the input must stand once, in the output or in the error file. Files may be packed with gzip or zstd. A
    file that is not there has no lines: a run without errors has no error file.
    """
    refuse_no_file(input_path)
    if not output_path.exists() and (errors_path is None or not errors_path.exists()):
        raise InputError(f"{output_path}: no such file: give the answers of {input_path}")
    verdict = verify_files(input_path, output_path, errors_path)
    if json:
        console.json_data(_json(verdict))
    else:
        _show(verdict)
    if not verdict.is_complete:
        raise typer.Exit(console.EXIT_FAILED)


def _show(verdict: Verdict) -> None:
    for _, faults in verdict.faults():
        for example in faults.examples:
            console.data(example)
        if faults.count > len(faults.examples):
            console.data(f"... and {faults.count - len(faults.examples):,} more")
    ended = f"{verdict.answered:,} answered, {verdict.failed:,} failed"
    wrong = ", ".join(f"{faults.count:,} {name}" for name, faults in verdict.faults() if faults.count)
    end = f"; {wrong}" if wrong else ": each exactly once"
    console.data(f"{plural(verdict.lines, 'line')}, {ended}{end}")


def _json(verdict: Verdict) -> dict[str, object]:
    return {
        "complete": verdict.is_complete,
        "lines": verdict.lines,
        "answered": verdict.answered,
        "failed": verdict.failed,
        **{name: {"count": faults.count, "examples": faults.examples} for name, faults in verdict.faults()},
    }
