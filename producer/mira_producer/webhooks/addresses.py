"""Addresses of receivers: a host name is resolved once per attempt, and the connection goes to that address."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Collection
from ipaddress import ip_address

from aiohttp.abc import AbstractResolver, ResolveResult

from mira_queue.contract.webhook import is_allowed_host, is_public


class ForbiddenAddress(OSError):
    """The host has an address of a private network, and the operator has not allowed it."""


class PublicAddresses(AbstractResolver):
    """Resolver of the HTTP client. The client connects to what it returns, and asks nothing else.

    A name with one private address is rejected as a whole: which address is used would be chance.
    """

    def __init__(self, private_hosts: Collection[str]) -> None:
        self._private_hosts = private_hosts

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys((kind, str(address[0])) for kind, *_, address in found))
        if not is_allowed_host(host, self._private_hosts):
            for _, address in addresses:
                if not is_public(ip_address(address)):
                    raise ForbiddenAddress(f"{host} has the address {address}, which is not public")
        return [
            ResolveResult(hostname=host, host=address, port=port, family=kind, proto=0, flags=socket.AI_NUMERICHOST)
            for kind, address in addresses
        ]

    async def close(self) -> None:
        """Do nothing: it holds nothing."""
