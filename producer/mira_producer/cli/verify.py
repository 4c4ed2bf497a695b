"""`mira-queue verify`: check that every line of an input was answered exactly once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mira_producer.cli import console
from mira_producer.cli.options import Json
from mira_producer.cli.problems import problem_lines
from mira_producer.jsonl.errors import InputError
from mira_producer.jsonl.reader import check_file
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
        1: "lines are missing, duplicated, invalid, changed, or not in the input",
        2: "wrong usage, or an input that cannot be used",
    },
)


def verify(
    input_path: Annotated[Path, typer.Argument(metavar="INPUT", help="File of requests.")],
    output_path: Annotated[Path, typer.Argument(metavar="OUTPUT", help="File of answers.")],
    errors_path: Annotated[Path | None, typer.Argument(metavar="[ERRORS]", help="File of errors.")] = None,
    json: Json = False,
) -> None:
    """Check that every line has exactly one answer or error.

    Each line of the input must be in the output file or in the error file, once, and for the request that the input has
    now. Lines that an earlier version or another tool wrote are compared only by their ids.

    Files may be compressed with gzip or zstd. A file that does not exist has no lines: a run without errors has no
    error file.
    """
    check_file(input_path)
    if not output_path.exists() and (errors_path is None or not errors_path.exists()):
        raise InputError(f"{output_path}: no such file: give the answers of {input_path}")
    verdict = verify_files(input_path, output_path, errors_path)
    if json:
        console.json_data(verdict.to_object())
    else:
        _show(verdict)
    if not verdict.is_complete:
        raise typer.Exit(console.EXIT_FAILED)


def _show(verdict: Verdict) -> None:
    for problems in verdict.problems.values():
        for line in problem_lines(problems.first, problems.count):
            console.data(line)
    finished = f"{verdict.answered:,} answered, {verdict.failed:,} failed"
    wrong = ", ".join(f"{problems.count:,} {name}" for name, problems in verdict.problems.items() if problems.count)
    if verdict.moved:
        console.data(f"{verdict.moved:,} of the changed lines moved: another line of the input has their request")
    if verdict.compared_by_id:
        console.data(f"{plural(verdict.compared_by_id, 'line')} without a digest: compared only by id")
    console.data(f"{plural(verdict.lines, 'line')}, {finished}{f'; {wrong}' if wrong else ': each exactly once'}")
