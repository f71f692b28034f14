"""The server: one page, and what it asks for; for people on this machine, unless they say otherwise."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from ffdi import names
from ffdi.app.judge import Judge
from ffdi.errors import ConfigError, DataError
from ffdi.pages import template

LOOPBACK = ("127.0.0.1", "localhost", "::1")
HIGHEST = 65_535
BUSY = 64
"""Requests at a time, beyond which the next is told to come again."""
POLICY = (
    "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'unsafe-inline'; img-src data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Nothing is loaded from elsewhere, nor does this page work inside of another one."""
HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store"}


@dataclass(frozen=True)
class Limits:
    """What is taken.

    Attributes:
        host: the address that is listened on.
        bytes: of an image.
    """

    host: str
    bytes: int

    @property
    def is_local(self) -> bool:
        """Whether only this machine can ask."""
        return self.host in LOOPBACK


def app(judge: Judge, limits: Limits) -> Starlette:
    """What answers: GET / (the page), POST /score and POST /look, each with one encoded image as its body.

    Both take `?img_name=`, which errors name. /score gives {"img_name", "y_pred"}; /look also pictures and what the
    score rests on. What cannot be used gives {"error"} with status 400, or 413 where it is too large; a name that
    could not stand in a CSV is refused as well.
    """

    async def page(_request: Request) -> Response:
        nonce = secrets.token_urlsafe(16)
        text = template.render("serve.html.j2", judge=judge, nonce=nonce, megabytes=limits.bytes / 1e6)
        return HTMLResponse(text, headers={"Content-Security-Policy": POLICY.format(nonce=nonce)})

    def answering(ask: Callable[[bytes, str], dict[str, Any]]) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            content = await _body(request, limits.bytes)
            name = request.query_params.get("img_name", "the image")
            if fault := names.fault(name):
                return _refused(f"the image name {names.quoted(name)} {fault}", 400)
            if content is None:
                return _refused(f"{name} has more than {limits.bytes / 1e6:g} MB, the limit", 413)
            try:
                return JSONResponse(await run_in_threadpool(ask, content, name))
            except DataError as error:
                return _refused(error.what, 400)

        return answer

    routes = [
        Route("/", page),
        Route("/score", answering(judge.score), methods=["POST"]),
        Route("/look", answering(judge.look), methods=["POST"]),
    ]
    hosts = [*LOOPBACK, "[::1]", limits.host] if limits.is_local else ["*"]
    middleware = [
        Middleware(TrustedHostMiddleware, allowed_hosts=hosts),  # no other name may lead here (DNS rebinding)
        Middleware(BaseHTTPMiddleware, dispatch=_guarded),
    ]
    return Starlette(routes=routes, middleware=middleware)


def listening(host: str, port: int) -> socket.socket:
    """A socket that nobody else has.

    Args:
        host: a name or an address.
        port: 0 for one that is free.

    Raises:
        ConfigError: it cannot be had.
    """
    try:
        if port > HIGHEST:  # which the system would take for another one
            raise OverflowError("no such port")
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        found = socket.socket(family, kind, protocol)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
        found.listen(BUSY)
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"--host {host} --port {port} cannot be listened on: {getattr(error, 'strerror', None) or error}",
            hint="pass a --host of this machine and a --port that is free; --port 0 finds one",
        ) from None
    return found


def serve(app: Starlette, found: socket.socket) -> None:
    """Answers until Ctrl-C or SIGTERM; what is being answered is."""
    config = uvicorn.Config(app, log_config=None, access_log=False, limit_concurrency=BUSY, lifespan="off")
    with suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[found])


async def _body(request: Request, most: int) -> bytes | None:
    """What was sent; None as soon as it is too much."""
    content = bytearray()
    async for part in request.stream():
        content += part
        if len(content) > most:
            return None
    return bytes(content)


async def _guarded(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
    """Refuses what a page of somebody else asks for, and says how an answer may be used."""
    origin = request.headers.get("origin")
    if origin is not None and origin.partition("://")[2] != request.headers.get("host"):
        return _refused(f"pages of {origin} may not ask here", 403)
    response = await answer(request)
    response.headers.update(HEADERS)
    return response


def _refused(what: str, status: int) -> Response:
    return JSONResponse({"error": what}, status)
