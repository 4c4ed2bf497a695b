"""Webhooks on the page: their URLs, which often contain a secret."""

from __future__ import annotations

import pytest
from mira_producer.page.webhooks.webhook_reader import _host_of


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://example.com/hook/secret?key=1", "https://example.com/…"),
        ("https://example.com:8443/?key=1", "https://example.com:8443/…"),
        ("https://example.com", "https://example.com"),
    ],
)
def test_users_who_may_not_act_see_the_host_only(url: str, shown: str) -> None:
    assert _host_of(url) == shown
