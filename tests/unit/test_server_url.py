"""URL of the queue's server: what is understood, and that no message reveals a password."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mira_queue.contract.permissions import KEY_COMMANDS, OTHER_COMMANDS, acl_rules
from mira_queue.contract.server_url import parse_server_url
from mira_queue.ledger.script_runner import scripts


def message_of(url: str) -> str:
    """Return the message of the rejection, or an empty one if the URL is accepted."""
    try:
        parse_server_url(url)
    except ValueError as error:
        return str(error)
    return ""


ROOT = Path(__file__).parents[2]
PASSWORDS = st.text(min_size=1, max_size=20).filter(lambda text: text.isprintable())


@given(password=PASSWORDS)
def test_a_percent_encoded_password_is_understood_in_every_form(password: str) -> None:
    encoded = quote(password, safe="")
    for url in (
        f"redis://:{encoded}@host:6379/2",
        f"rediss://:{encoded}@host/2",
        f"redis+sentinel://:{encoded}@a:1,b:2/name/2",
    ):
        server = parse_server_url(url)
        assert (server.login, server.db) == ({"password": password}, 2)


@given(password=st.text("Gh9#/?@:%[]", min_size=8, max_size=20))
def test_no_message_reveals_a_part_of_a_password_that_is_not_encoded(password: str) -> None:
    secret = f"Geheim{password}Wort"
    message = message_of(f"redis://:{secret}@host:6379/0")

    assert "Geheim" not in message
    assert "Wort" not in message
    assert message or not re.search("[#/?]", secret)


@pytest.mark.parametrize("character", "#/?")
def test_a_password_that_is_not_encoded_is_rejected_with_advice(character: str) -> None:
    with pytest.raises(ValueError, match="percent-encode"):
        parse_server_url(f"redis://:Geheim9{character}x@host:6379/0")


def test_sentinels_have_a_service_a_login_and_a_database() -> None:
    server = parse_server_url(
        "rediss+sentinel://app:pw@s1:26380,s2,[::1]:3/mira/4?sentinel_password=q&ssl_ca_certs=/ca.pem"
    )

    assert server.hosts == (("s1", 26380), ("s2", 26379), ("::1", 3))
    assert (server.service, server.db) == ("mira", 4)
    assert (server.login, server.sentinel_login) == ({"username": "app", "password": "pw"}, {"password": "q"})
    assert server.tls == {"ssl_cert_reqs": "required", "ssl_check_hostname": True, "ssl_ca_certs": "/ca.pem"}
    assert "pw" not in repr(server)


@pytest.mark.parametrize("spelling", ["none", "CERT_NONE"])
def test_both_spellings_of_an_unchecked_certificate_are_accepted(spelling: str) -> None:
    server = parse_server_url(f"rediss://host/0?ssl_cert_reqs={spelling}")

    assert server.tls == {"ssl_cert_reqs": "none", "ssl_check_hostname": False}


@pytest.mark.parametrize(
    ("url", "keyword"),
    [
        ("rediss://host/0?ssl_cert_reqs=never", "ssl_cert_reqs"),
        ("redis://host/0?ssl_cert_reqs=none", "unknown parameter"),
        ("redis://a:1,b:2/0", "one host"),
        ("redis+sentinel://a:1", "service"),
        ("redis://host/x", "database"),
        ("http://host", "redis://"),
    ],
)
def test_a_wrong_part_is_named(url: str, keyword: str) -> None:
    with pytest.raises(ValueError, match=re.escape(keyword)):
        parse_server_url(url)


def test_every_command_of_the_scripts_is_among_those_whose_permission_is_checked() -> None:
    used = {name.upper() for text in scripts().values() for name in re.findall(r"redis\.p?call\(['\"](\w+)", text)}

    assert used
    assert used <= {command.split()[0] for command in (*KEY_COMMANDS, *OTHER_COMMANDS)} | {"PUBLISH"}


def test_the_docs_have_the_rules_of_the_user() -> None:
    assert f"ACL SETUSER mira on >PASSWORD {acl_rules()}\n" in (ROOT / "docs" / "server.md").read_text(encoding="utf-8")
