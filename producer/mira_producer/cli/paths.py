"""The files of a run, as the command line names them."""

from __future__ import annotations

import os
from pathlib import Path

from mira_producer.jsonl.errors import InputError
from mira_producer.jsonl.reader import check_file
from mira_producer.jsonl.remove_errors import STANDARD_OUTPUT
from mira_queue.contract.unicode import is_unicode
from mira_queue.runtime.private_files import make_private_dir


def output_paths(input_path: Path, output: Path | None, errors: Path | None, simulate: bool) -> tuple[Path, Path]:
    """Return the files for answers and errors. The defaults have the name of the input.

    Answers are next to the input, and errors next to the answers. Simulated answers never share a file with real ones.
    """
    plain = input_path.name.removesuffix(".gz").removesuffix(".zst")
    stem = plain.removesuffix(".jsonl") + (".simulated" if simulate else "")
    output = output or input_path.parent / f"{stem}.answers.jsonl"
    return output, errors or output.parent / f"{stem}.errors.jsonl"


def check_paths(source: Path, output: Path, errors: Path) -> None:
    """Raise InputError if a file would be overwritten, or if there is nothing to read."""
    check_file(source)
    for name, path in (("--output", output), ("--errors", errors)):
        if path == STANDARD_OUTPUT:
            fix = "name a file, or print current answers with mira-queue results ID -o -"
            raise InputError(f"{name}: a run needs a file, because it reads its answers again when it resumes: {fix}")
        if path.resolve() == source.resolve():
            raise InputError(f"{name} is the input file itself: name another one")
        if not path.parent.exists():
            raise InputError(f"{name}: {path.parent}: no such directory: make it, or name another")
        if not is_unicode(str(path.absolute())):
            raise InputError(f"{name}: {path}: its path is not UTF-8: name another file")
    if output.resolve() == errors.resolve():
        raise InputError("--output and --errors are the same file: name two")


def made(state_dir: Path) -> Path:
    """Create the state directory, and return it. Raise InputError, because a setting is wrong."""
    try:
        make_private_dir(state_dir)
    except OSError as error:
        raise InputError(f"MIRA_STATE_DIR: {state_dir}: {error.strerror}, or name another directory") from None
    if not os.access(state_dir, os.W_OK | os.X_OK):
        raise InputError(f"MIRA_STATE_DIR: {state_dir}: cannot be written: name another directory")
    return state_dir
