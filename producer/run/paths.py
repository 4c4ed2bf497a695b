"""Where a run of the command line reads and writes."""

from __future__ import annotations

import hashlib
from pathlib import Path

from producer.run.source import InputError


def default_output(input_path: Path, simulate: bool) -> tuple[Path, Path]:
    """Beside the input; simulated answers never share a file with real ones."""
    plain = input_path.name.removesuffix(".gz").removesuffix(".zst")
    stem = plain.removesuffix(".jsonl") + (".simulated" if simulate else "")
    return input_path.parent / f"{stem}.answers.jsonl", input_path.parent / f"{stem}.errors.jsonl"


def check_paths(source: Path, output: Path, errors: Path) -> None:
    """Raises InputError where a file would be overwritten, or there is nothing to read."""
    if not source.is_file():
        raise InputError(f"{source}: no such file: give a file with one JSON request a line")
    paths = {"--output": output.resolve(), "--errors": errors.resolve()}
    for name, path in paths.items():
        if path == source.resolve():
            raise InputError(f"{name} is the input file itself: name another one")
    if paths["--output"] == paths["--errors"]:
        raise InputError("--output and --errors are the same file: name two")


def group_of(output: Path) -> str:
    """The name of the run that writes this file."""
    return hashlib.sha256(str(output.resolve()).encode()).hexdigest()[:16]
