"""Names of options in messages, as a client of the HTTP API writes them. Pure."""

from __future__ import annotations

import re

_OPTION = re.compile(r"(?<![\w-])--([a-z]+(?:-[a-z]+)*)")


def http_spelling(text: str) -> str:
    """Return a message that names parameters (`max_cost`) in place of options of the command line (`--max-cost`)."""
    return _OPTION.sub(lambda found: found[1].replace("-", "_"), text)
