"""Names that both sides spell alike; the table of keys at the top of the file is the whole of them."""

from __future__ import annotations

import re
from importlib.resources import files

from hypothesis import given
from hypothesis import strategies as st

from mira_queue.contract import names
from mira_queue.contract.names import Lane

BUILT = {
    names.job_key("ID"),
    names.request_key("ID"),
    re.sub("key:.*", "key:HASH", names.idempotency_key("some key")),
    re.sub("queued:.*", "queued:LANE", names.queued_key(Lane.NORMAL)),
    names.LEASED,
    names.WAITING,
    names.ACCOUNTS,
    names.finished_key("GROUP"),
    names.pace_key("ACCOUNT"),
    names.sent_key("ACCOUNT"),
    names.tokens_key("ACCOUNT"),
    names.in_flight_key("ACCOUNT"),
    names.turns_key("ACCOUNT"),
    names.turn_ends_key("ACCOUNT"),
    names.faults_key("ACCOUNT"),
    names.result_key("ID"),
}


def test_the_table_lists_every_key_that_can_be_built() -> None:
    rows = re.findall(r"^\| (\S+)\s+\|", names.__doc__ or "", re.MULTILINE)

    assert set(rows) - {"key", "-------------------"} >= BUILT


def test_no_script_makes_up_a_key() -> None:
    """Every key comes from a builder, in KEYS."""
    for script in (files("mira_queue.ledger") / "scripts").iterdir():
        code = re.sub(r"--.*", "", script.read_text(encoding="utf-8"))
        assert "mira:" not in code, script.name
        assert "celery-" not in code, script.name


@given(st.text(min_size=1), st.text(min_size=1))
def test_two_idempotency_keys_share_a_name_only_when_they_are_the_same(one: str, other: str) -> None:
    assert (names.idempotency_key(one) == names.idempotency_key(other)) == (one == other)


@given(st.text(min_size=1, max_size=10_000))
def test_the_name_of_an_idempotency_key_is_short_and_says_nothing(key: str) -> None:
    assert re.fullmatch(r"mira:key:[0-9a-f]{32}", names.idempotency_key(key))


def test_an_account_is_a_base_and_a_key_and_its_name_tells_neither() -> None:
    base, key = "https://api.vmira.ai/v1", "sk-mira-" + "0123456789" * 4
    name = names.account_name(base, key)

    assert re.fullmatch(r"[0-9a-f]{16}", name)
    assert name != names.account_name(base, key + "0")
    assert name != names.account_name(base + "/", key)
    assert name == names.account_name(base, key)


def test_lanes_have_keys_of_their_own() -> None:
    assert (
        len({names.queued_key(lane) for lane in Lane}) == len({names.messages_key(lane) for lane in Lane}) == len(Lane)
    )
