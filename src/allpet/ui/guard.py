"""Who may speak to the server: its own host names, its token; and what a page may load: nothing from elsewhere."""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qs

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; worker-src 'self' blob:; style-src 'self' 'unsafe-inline'; "
    "connect-src 'self' data: blob:; script-src 'self' 'wasm-unsafe-eval'; object-src 'none'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "cross-origin-resource-policy": "same-origin",
}
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def own_host(header: str, bound: str) -> bool:
    """True if a Host header names this server: against names of others that were made to lead here.

    Parameters
    ----------
    bound : address that it listens at; one for all addresses takes any address, but no other name than localhost.
    """
    name = header.strip().lower()
    if name.startswith("["):
        name = name[1:].partition("]")[0]
    elif name.count(":") == 1:
        name = name.partition(":")[0]
    if name in LOOPBACK or name == bound.lower():
        return True
    try:
        return bound in ("0.0.0.0", "::") and bool(ipaddress.ip_address(name))
    except ValueError:
        return False


class Guard:
    """Between the network and the app: refuses strangers, and says on every answer what a page may load.

    Parameters
    ----------
    token : asked for in header X-Token, for the page itself in its address. bound : address that the server listens at.
    """

    def __init__(self, app: App, token: str, bound: str) -> None:
        self.app, self.token, self.bound = app, token.encode(), bound

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        path = str(scope["path"])
        headers = dict(HEADERS)
        headers["cache-control"] = "no-cache" if path.startswith("/static/") else "no-store"

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                known = [pair for pair in message.get("headers", []) if pair[0].decode().lower() not in headers]
                own = [(name.encode(), value.encode()) for name, value in headers.items()]
                message = {**message, "headers": [*known, *own]}
            await send(message)

        reason = self._reason(scope, path)
        if reason is None:
            await self.app(scope, receive, sent)
        else:
            await _refuse(sent, reason)

    def _reason(self, scope: Message, path: str) -> str | None:
        """Why a request is refused; None if it is not."""
        values: dict[bytes, bytes] = dict(scope["headers"])
        if not own_host(values.get(b"host", b"").decode("latin-1"), self.bound):
            return "this server does not answer to that host name"
        if path.startswith("/static/"):
            return None
        given = values.get(b"x-token", b"")
        if path == "/":
            asked = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("token", [""])
            given = asked[0].encode()
        if not secrets.compare_digest(given, self.token):
            return "the token is missing or wrong; open the address that 'allpet ui' printed"
        return None


async def _refuse(send: Send, reason: str) -> None:
    import json

    body = json.dumps({"error": reason}).encode()
    start = {"type": "http.response.start", "status": 403, "headers": [(b"content-type", b"application/json")]}
    await send(start)
    await send({"type": "http.response.body", "body": body})
