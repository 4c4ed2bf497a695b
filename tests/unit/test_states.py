"""The states of a job: what the docstring says of each is what the code has."""

from __future__ import annotations

import inspect
import re

from mira_queue.contract.states import FINAL, JobState
from mira_queue.ledger.script_runner import scripts

# "queued      accepted; ...        moved by: claim, cancel"
LINE = re.compile(r"^(?P<state>[a-z]+) {2,}\S.*? {2,}(?:moved by: (?P<verbs>.*)|(?P<final>final))$", re.MULTILINE)


def described() -> dict[str, re.Match[str]]:
    return {match["state"]: match for match in LINE.finditer(inspect.getdoc(JobState) or "")}


def test_the_docstring_describes_every_state_and_no_other() -> None:
    assert set(described()) == {state.value for state in JobState}


def test_who_is_said_to_move_a_job_is_a_verb_of_the_ledger() -> None:
    verbs = {
        verb
        for match in described().values()
        for verb in re.findall(r"\w+", re.sub(r"\(.*?\)", "", match["verbs"] or ""))
    }

    assert len(verbs) > 5
    assert verbs <= {name.partition("/")[2] for name in scripts()}


def test_final_is_what_nobody_but_its_owner_moves() -> None:
    unmoved = {state for state, match in described().items() if match["final"] or match["verbs"].startswith("retry")}

    assert unmoved == FINAL
    assert [state for state in JobState if state.is_final] == sorted(FINAL, key=list(JobState).index)
