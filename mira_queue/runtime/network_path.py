"""Path of a call to an API: the proxy and the CA certificates of the environment. One rule for workers and `doctor`.

The variables are those of requests and curl. What can be wrong with them is found before the first call.
"""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from importlib.util import find_spec
from ipaddress import ip_address, ip_network
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies, proxy_bypass

from mira_queue.contract.settings import SettingsError

# The first one that is set is used. OpenAI's own client reads the last one.
CA_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")
_PROXY_SCHEMES = ("http", "https", "socks4", "socks4a", "socks5", "socks5h")


@dataclass(frozen=True, slots=True)
class NetworkPath:
    """`proxy` is a URL, perhaps with a password; empty: none. `ca` is a file or a directory; empty: that of certifi."""

    proxy: str = ""
    ca: str = ""

    @property
    def shown_proxy(self) -> str:
        """Return the proxy without its user and password."""
        parts = urlsplit(self.proxy)
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        return f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port else "") if self.proxy else ""


def network_path(base: str) -> NetworkPath:
    """Return the path to a base URL. Raises SettingsError, in one line, if calls cannot take it."""
    parts = urlsplit(base)
    path = NetworkPath(_proxy(parts))
    # Without TLS on the way, a wrong variable harms no call.
    is_tls = parts.scheme == "https" or path.proxy.startswith("https:")
    return NetworkPath(path.proxy, _ca() if is_tls else "")


def _proxy(base: SplitResult) -> str:
    proxies = getproxies()
    kind = next((each for each in (base.scheme, "all") if proxies.get(each)), "")
    if not kind or _is_direct(base):
        return ""
    proxy = proxies[kind] if "://" in proxies[kind] else f"http://{proxies[kind]}"
    name = f"{kind.upper()}_PROXY"
    try:
        parts = urlsplit(proxy)
        is_valid = parts.scheme in _PROXY_SCHEMES and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_valid = False
    if not is_valid:
        raise SettingsError(f"{name}: expected the URL of a proxy, such as http://proxy:3128 (the value is not shown)")
    if parts.scheme.startswith("socks") and find_spec("socks") is None:
        fix = 'install PySocks (pip install "mira-queue[socks]"), unset it, or add the host to NO_PROXY'
        raise SettingsError(f"{name}: {NetworkPath(proxy).shown_proxy} is a SOCKS proxy, which needs PySocks: {fix}")
    return proxy


def _is_direct(base: SplitResult) -> bool:
    """Return True if NO_PROXY has the host, the host with its port, or a network (10.0.0.0/8) of its address."""
    host = base.hostname or ""
    port = base.port or (443 if base.scheme == "https" else 80)
    try:
        address = ip_address(host)
    except ValueError:
        return bool(proxy_bypass(f"{host}:{port}"))
    return bool(proxy_bypass(f"{host}:{port}")) or any(
        address in ip_network(each, strict=False) for each in _networks(os.environ)
    )


def _networks(environment: os._Environ[str]) -> list[str]:
    entries = (environment.get("no_proxy") or environment.get("NO_PROXY") or "").split(",")
    return [each.strip() for each in entries if _is_network(each.strip())]


def _is_network(text: str) -> bool:
    try:
        ip_network(text, strict=False)
    except ValueError:
        return False
    return True


def _ca() -> str:
    name = next((each for each in CA_VARIABLES if os.environ.get(each)), "")
    if not name:
        return ""
    path = os.environ[name]
    fix = f"correct {name}, or unset it to use the usual certificates"
    if not os.path.exists(path):
        raise SettingsError(f"{name}: {path} does not exist, so no certificate can be verified: {fix}")
    if os.path.isdir(path):
        return path
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except ssl.SSLError:
        raise SettingsError(f"{name}: {path} has no certificate in PEM format: {fix}") from None
    except OSError as error:
        raise SettingsError(f"{name}: {path} cannot be read ({error.strerror}): {fix}") from None
    return path
