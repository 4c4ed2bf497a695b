"""How long the gate stays closed after a Retry-After: never shorter, and hardly longer."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from worker.pacing.pacer import with_gate_margin


@given(st.integers(0, 7 * 86_400_000))
def test_a_wait_is_never_cut_short_and_is_a_thousandth_longer_at_most_and_a_clocks_grain(wait_ms: int) -> None:
    wait = timedelta(milliseconds=wait_ms)

    assert wait < with_gate_margin(wait) <= wait * 1.001 + timedelta(milliseconds=11)
