"""Names that both sides share: every key has a builder that documents it."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mira_queue.contract import names
from mira_queue.contract.names import Lane
from mira_queue.ledger.script_runner import scripts
from mira_queue.runtime.full_memory import FIRST_WRITE

BUILDERS = [build for name, build in vars(names).items() if name.endswith("_key")]


@pytest.mark.parametrize("build", BUILDERS)
def test_every_key_says_its_type_its_owner_and_how_long_it_lives(build: Callable[..., str]) -> None:
    assert re.match(r"(Hash|List|Set|String|Zset)\b", build.__doc__ or "")
    assert re.search(r"owned by (the|Celery|accept)", build.__doc__ or "")
    assert re.search(r"\blives?\b|_TTL|KEY_MARGIN|Celery's", build.__doc__ or "", re.ASCII)


def test_no_script_makes_up_a_key() -> None:
    """Every key comes from a builder, in KEYS."""
    for name, text in scripts().items():
        # Apart from the key that never exists (see runtime/full_memory.py).
        code = re.sub(r"--.*", "", text.replace(FIRST_WRITE, ""))
        assert "mira:" not in code, name
        assert "celery-" not in code, name


@given(st.text(min_size=1), st.text(min_size=1))
def test_two_idempotency_keys_share_a_name_only_when_they_are_the_same(one: str, other: str) -> None:
    assert (names.idempotency_key(one) == names.idempotency_key(other)) == (one == other)


@given(st.text(min_size=1, max_size=10_000))
def test_the_name_of_an_idempotency_key_is_short_and_says_nothing(key: str) -> None:
    assert re.fullmatch(r"mira:key:[0-9a-f]{32}", names.idempotency_key(key))


def test_lanes_have_keys_of_their_own() -> None:
    assert (
        len({names.queued_key(lane) for lane in Lane}) == len({names.messages_key(lane) for lane in Lane}) == len(Lane)
    )
