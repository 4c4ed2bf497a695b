"""Text from outside on a terminal: its control characters never arrive there."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

HOSTILE = {
    "ESC": "\x1b",
    "CSI": "\x1b[2J",
    "OSC 8": "\x1b]8;;http://elsewhere\x1b\\link\x1b]8;;\x1b\\",
    "BEL and backspace": "\x07\x08\x08",
    "carriage return": "\r",
    "DEL": "\x7f",
    "CSI in C1": "\x9b2J",
    "OSC in C1": "\x9d8;;\x9c",
    "override": "\u202e",
    "isolate": "\u2066\u2069",
    "mark": "\u200f\u061c",
}
FORBIDDEN = {char for text in HOSTILE.values() for char in text if not char.isprintable()} - {"\x1b", "\r"}

SHOW = """
import sys
from datetime import timedelta
from pathlib import Path
import structlog
from rich.console import Console
from mira_producer.cli import console
from mira_producer.cli.doctor import _print
from mira_producer.cli.doctor.finding import warning
from mira_producer.cli.progress import live_view
from mira_producer.jsonl.remove_errors import STANDARD_OUTPUT, copy_lines
from mira_queue.contract.batch import Batch, BatchStatus, Reason
from mira_queue.runtime.logs import configure_logs

text = sys.argv[1]
console.data(text)
console.json_data({text: text})
console.message(text)
console.error(text)
console.table(["id"], [[text]])
console.card([("name", text)])
_print(warning("API", text, text))
waiting = Reason("limit", text, timedelta(0))
Console().print(live_view(Batch("batch_1", BatchStatus.IN_PROGRESS, "in.jsonl", "", 1, waiting=waiting), 70))
copy_lines(Path(sys.argv[2]), STANDARD_OUTPUT)
sys.stdout.flush()
configure_logs("auto", "info")
structlog.get_logger("x").info(text, detail=text)
"""


def on_a_terminal(*arguments: str) -> str:
    """Return what SHOW writes to a terminal."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", SHOW, *arguments], stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    found = b""
    try:
        while block := os.read(ours, 65536):
            found += block
    except OSError:
        pass  # Linux reports the end of a terminal so.
    finally:
        os.close(ours)
    assert process.wait(60) == 0, found
    return found.decode()


def test_control_characters_of_outside_text_do_not_reach_a_terminal(tmp_path: Path) -> None:
    text = " ".join(f"before{each}after" for each in HOSTILE.values())
    lines = tmp_path / "answers.jsonl"
    lines.write_text(json.dumps({"detail": text}, ensure_ascii=False) + "\n")

    shown = on_a_terminal(text, str(lines))

    assert shown.count("before") >= 10 * len(HOSTILE)
    assert not FORBIDDEN & set(shown)
    # Lines end with \r\n, and colors of our own are sequences that end with m.
    assert "\r" not in shown.replace("\r\n", "")
    assert not re.sub(r"\x1b\[[0-9;]*m", "", shown).count("\x1b")
