"""The options of a simulator, as one option of another command."""

from __future__ import annotations

import shlex

import typer


def split_options(text: str) -> tuple[str, ...]:
    """Return the words of a text, as a shell splits them."""
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--simulator-options") from None
