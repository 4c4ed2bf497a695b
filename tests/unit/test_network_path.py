"""Proxy and certificates of the environment: the rules of requests, and one line for what cannot work."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import requests

from mira_queue.contract.settings import SettingsError
from mira_queue.runtime.network_path import network_path

PROXY = "http://proxy.example:3128"
HOSTS = ["http://api.example/v1", "https://api.example:8443/v1", "http://10.1.2.3/v1", "http://[::1]:8000/v1"]


@pytest.mark.parametrize("base", HOSTS)
@pytest.mark.parametrize("variable", ["http_proxy", "HTTPS_PROXY", "all_proxy"])
@pytest.mark.parametrize(
    "excluded", ["", "*", "example", ".example", "api.example", "api.example:8443", "10.0.0.0/8", "10.1.2.3, other"]
)
def test_a_proxy_is_used_where_requests_uses_it(
    base: str, variable: str, excluded: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, PROXY)
    monkeypatch.setenv("no_proxy", excluded)
    with requests.Session() as session:
        theirs = session.merge_environment_settings(base, {}, None, None, None)["proxies"]
    expected = requests.utils.select_proxy(base, theirs) or ""

    assert network_path(base).proxy == expected


@pytest.mark.parametrize("text", ["ftp://p:1", "http://user:hush@p:port", "http://", "http://p:0"])
def test_a_proxy_that_cannot_be_used_is_one_line_without_its_password(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", text)

    with pytest.raises(SettingsError, match=r"^HTTPS_PROXY: ") as caught:
        network_path("https://api.example/v1")

    assert "hush" not in str(caught.value)
    assert network_path("http://api.example/v1").proxy == ""


def test_a_socks_proxy_without_pysocks_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("all_proxy", "socks5h://user:hush@proxy.example:1080")
    monkeypatch.setitem(sys.modules, "socks", None)

    with pytest.raises(SettingsError, match=r"^ALL_PROXY: socks5h://proxy.example:1080 .*PySocks") as caught:
        network_path("https://api.example/v1")

    assert "hush" not in str(caught.value)


def test_a_ca_file_without_certificates_or_out_of_reach_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for text, word in ((str(tmp_path / "none.pem"), "does not exist"), (__file__, "PEM")):
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", text)
        with pytest.raises(SettingsError, match=rf"^REQUESTS_CA_BUNDLE: .*{word}"):
            network_path("https://api.example/v1")


def test_a_ca_file_does_not_matter_without_tls_and_a_directory_is_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/does/not/exist.pem")
    assert network_path("http://api.example/v1").ca == ""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path))
    assert network_path("https://api.example/v1").ca == str(tmp_path)
