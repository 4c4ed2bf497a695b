"""The user of a request: of a session, or named by an authenticating proxy."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from ipaddress import ip_address

from starlette.requests import Request

from mira_producer.gateway.context import Context
from mira_queue.contract.api_key import ApiKey, Scope
from mira_queue.contract.settings import Settings
from mira_queue.contract.unicode import printable

MAX_USER_CHARS = 100


@dataclass(frozen=True, slots=True)
class Audience:
    """The users who see the same content. An empty project means all projects."""

    project: str
    may_act: bool

    def sees(self, project: str) -> bool:
        """Return True if objects of this project exist for these users."""
        return not self.project or project == self.project


@dataclass(frozen=True, slots=True)
class Visitor:
    """A user who has signed in. `csrf` is the token of this user's forms. A user of a proxy cannot sign out here."""

    name: str
    key: ApiKey
    csrf: str
    audience: Audience
    is_of_proxy: bool = False

    @property
    def may_act(self) -> bool:
        return self.audience.may_act

    @property
    def project(self) -> str:
        return self.audience.project

    def sees(self, project: str) -> bool:
        return self.audience.sees(project)


async def visitor_of(context: Context, request: Request) -> Visitor | None:
    """Return the user of a request, or None if there is none. A revoked key ends its sessions."""
    user = _user_of_proxy(context.settings, request)
    if user:
        scope = context.settings.page_user_scope
        # The page shows all projects to these users: a proxy knows users, and no projects.
        name = printable(user)
        # No API key can have this name, so the user's project is not that of a key.
        key = ApiKey(f"user_{hashlib.sha256(user.encode()).hexdigest()[:16]}", f"user:{name}", scope, 0)
        audience = Audience("", scope is Scope.ADMIN)
        return Visitor(name, key, context.sessions.csrf(f"user:{user}"), audience, is_of_proxy=True)
    digest = context.sessions.digest(request)
    known = await context.access.known(digest) if digest else None
    if known is None:
        return None
    is_admin = known.scope is Scope.ADMIN
    audience = Audience("" if is_admin else known.project, is_admin)
    return Visitor(known.name, known, context.sessions.csrf(f"key:{digest}"), audience)


def _user_of_proxy(settings: Settings, request: Request) -> str:
    if settings.page_user_header is None or request.client is None:
        return ""
    try:
        address = ip_address(request.client.host)
    except ValueError:
        return ""
    # Two headers of this name: one of them may be the client's.
    users = request.headers.getlist(settings.page_user_header)
    if len(users) != 1 or not any(address in network for network in settings.page_proxies):
        return ""
    return users[0].strip()[:MAX_USER_CHARS]
