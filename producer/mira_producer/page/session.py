"""Signed values that the browser returns: the session, the notice of the next page, and CSRF tokens."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from itsdangerous import BadData, Signer, URLSafeTimedSerializer
from pydantic import SecretStr
from starlette.requests import Request
from starlette.responses import Response

SESSION_S = 24 * 3600
NOTICE_S = 60


@dataclass(frozen=True, slots=True)
class Notice:
    """The result of an action, which the next page shows once."""

    text: str
    is_error: bool = False


class Sessions:
    """The cookies of one queue, whose gateways all sign with the same secret.

    A session has the digest of its API key, so it ends when the key is revoked.
    """

    def __init__(self, secret: SecretStr, *, is_secure: bool) -> None:
        self._secret = secret.get_secret_value()
        self._is_secure = is_secure
        # Browsers share the cookies of all ports of a host. Each may have a gateway with a queue of its own.
        self._suffix = hashlib.sha256(self._secret.encode()).hexdigest()[:8]

    def start(self, request: Request, response: Response, digest: str) -> None:
        """Sign in the holder of the API key with this digest."""
        self._write(request, response, "session", digest, SESSION_S)

    def digest(self, request: Request) -> str:
        """Return the digest of the session's API key; an empty string if the request has no session."""
        found = self._read(request, "session", SESSION_S)
        return found if isinstance(found, str) else ""

    def end(self, request: Request, response: Response) -> None:
        self._delete(request, response, "session")

    def notify(self, request: Request, response: Response, notice: Notice) -> None:
        """Show the notice on the next page."""
        self._write(request, response, "notice", [notice.text, notice.is_error], NOTICE_S)

    def notice(self, request: Request) -> Notice | None:
        found = self._read(request, "notice", NOTICE_S)
        return Notice(*found) if isinstance(found, list) else None

    def forget_notice(self, request: Request, response: Response) -> None:
        self._delete(request, response, "notice")

    def csrf(self, user: str) -> str:
        """Return the CSRF token of a user: only a page of this gateway can know it."""
        return Signer(self._secret, salt="mira-csrf").get_signature(user.encode()).decode()

    def _write(self, request: Request, response: Response, kind: str, value: object, seconds: int) -> None:
        response.set_cookie(
            self._name(kind),
            self._serializer(kind).dumps(value),
            max_age=seconds,
            path=_path(request),
            secure=self._is_secure or request.url.scheme == "https",
            httponly=True,
            # Not strict: a link from a colleague's message must find the session.
            samesite="lax",
        )

    def _read(self, request: Request, kind: str, max_age_s: int) -> object:
        try:
            found: object = self._serializer(kind).loads(request.cookies.get(self._name(kind), ""), max_age_s)
        except BadData:
            return None
        return found

    def _delete(self, request: Request, response: Response, kind: str) -> None:
        response.delete_cookie(self._name(kind), path=_path(request), httponly=True, samesite="lax")

    def _name(self, kind: str) -> str:
        return f"mira_{kind}_{self._suffix}"

    def _serializer(self, kind: str) -> URLSafeTimedSerializer:
        # The kind is in the signature: a notice is never read as a session.
        signer = {"digest_method": hashlib.sha256}
        return URLSafeTimedSerializer(self._secret, salt=f"mira-{kind}", serializer=json, signer_kwargs=signer)


def _path(request: Request) -> str:
    return request.scope.get("root_path") or "/"
