"""The server: one page, and what it asks for; for people on this machine, unless they say otherwise.

Memory is bounded by what is taken in at a time: so many connections, so many bytes of bodies, and one image that is
decoded. Whoever sends too slowly, waits too long or has gone away holds no place.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from ffdi.core import names, signals
from ffdi.core.errors import ConfigError, DataError
from ffdi.inference.judge import MAX_PIXELS, ImageExplainer
from ffdi.inference.worker import Cancelled, Check, Full, Worker
from ffdi.pages import template

LOOPBACK = ("127.0.0.1", "localhost", "::1")
HIGHEST = 65_535
CONNECTIONS = 256
"""At a time, beyond which the next is told to come again; each takes some kilobytes."""
WAITING = 32
"""Images that wait for their turn."""
BODIES = 8
"""Largest images whose bytes are in memory at a time."""
PATIENCE = 30.0
"""Seconds that an image may wait for its turn."""
AGAIN = 2
"""Seconds after which to ask again."""
FIRST, RATE = 10.0, 100_000
"""Seconds that an image's bytes may take, and how many more may come in each further second."""
IDLE = 10.0
"""Seconds that a connection may be open without a request."""
EXCHANGE = 900.0
"""Seconds from a request to the end of its answer."""
ENDING = 0.2
"""Seconds that answers may take once the server ends."""
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


class Refused(Exception):
    """A request that is not answered: in words, and with a status; `again` where it may be asked later."""

    def __init__(self, what: str, status: int, *, again: bool = False) -> None:
        super().__init__(what)
        self.response = _refused(what, status, {"Retry-After": str(AGAIN)} if again else {})


class Bodies:
    """The bytes of images that are in memory.

    Args:
        most: how many there may be.
    """

    def __init__(self, most: int) -> None:
        self._most, self._held = most, 0

    def hold(self, count: int) -> None:
        """So many more.

        Raises:
            Refused: too many.
        """
        if self._held + count > self._most:
            raise Refused("the server has too many images at a time; try again", 503, again=True)
        self._held += count

    def release(self, count: int) -> None:
        """So many less."""
        self._held -= count


def app(judge: ImageExplainer, limits: Limits, worker: Worker) -> Starlette:
    """What answers: GET / (the page), POST /score and POST /look, each with one encoded image as its body.

    Both take `?img_name=`, which errors name. /score gives {"img_name", "y_pred"}; /look also pictures and what the
    score rests on. What cannot be used gives {"error"} with status 400, 408 where it comes too slowly, 413 where it is
    too large, and 503 with Retry-After where too much is waiting; a name that could not stand in a CSV gives 400 too.
    """
    bodies = Bodies(BODIES * limits.bytes)

    async def page(_request: Request) -> Response:
        nonce = secrets.token_urlsafe(16)
        text = template.render("serve.html.j2", judge=judge, nonce=nonce, bytes=limits.bytes, pixels=MAX_PIXELS)
        return HTMLResponse(text, headers={"Content-Security-Policy": POLICY.format(nonce=nonce)})

    async def answer(ask: Callable[[bytes, str, Check], dict[str, Any]], request: Request) -> Response:
        name = request.query_params.get("img_name", "the image")
        if fault := names.find_fault(name):
            return _refused(f"the image name {names.quote(name)} {fault}", 400)
        content = bytearray()
        try:
            if worker.is_full:
                raise Full
            await _read(request, name, limits.bytes, bodies, content)
            return JSONResponse(await _done(worker, partial(ask, bytes(content), name), request))
        except DataError as error:
            return _refused(error.what, 400)
        except Refused as refused:
            return refused.response
        except Full:
            return Refused("the server has too many images waiting; try again", 503, again=True).response
        except (ClientDisconnect, Cancelled):
            return _refused("the client has gone away, or the server has ended", 503)
        finally:
            bodies.release(len(content))

    routes = [
        Route("/", page),
        Route("/score", partial(answer, judge.score), methods=["POST"]),
        Route("/look", partial(answer, judge.look), methods=["POST"]),
    ]
    hosts = [*LOOPBACK, "[::1]", limits.host] if limits.is_local else ["*"]
    middleware = [
        Middleware(TrustedHostMiddleware, allowed_hosts=hosts),  # no other name may lead here (DNS rebinding)
        Middleware(_Guarded),
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
        found.listen(CONNECTIONS)
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"--host {host} --port {port} cannot be listened on: {getattr(error, 'strerror', None) or error}",
            hint="pass a --host of this machine and a --port that is free; --port 0 finds one",
        ) from None
    return found


def serve(judge: ImageExplainer, limits: Limits, found: socket.socket) -> None:
    """Answers until Ctrl-C or SIGTERM. What is waiting then is dropped, and so is what is being worked on: the image's
    next part is not begun."""
    worker = Worker(WAITING)
    config = uvicorn.Config(
        app(judge, limits, worker),
        http=_Protocol,
        ws="none",
        log_config=None,
        log_level=logging.ERROR,  # that somebody was refused is told to them
        access_log=False,
        limit_concurrency=CONNECTIONS,
        lifespan="off",
        timeout_graceful_shutdown=2,  # where `_Server` has not closed all before
    )
    with suppress(KeyboardInterrupt), signals.sigterm_as_interrupt():
        _Server(config, worker).run(sockets=[found])
    worker.leave()


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, worker: Worker) -> None:
        super().__init__(config)
        self._worker = worker

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._worker.end()
        self._abort(lambda connection: connection.is_read)  # what is being sent would never be looked at
        asyncio.get_running_loop().call_later(ENDING, self._abort, lambda _: True)
        await super().shutdown(sockets)

    def _abort(self, which: Callable[[_Protocol], bool]) -> None:
        for connection in list(self.server_state.connections):
            if isinstance(connection, _Protocol) and which(connection):
                connection.transport.abort()


class _Protocol(H11Protocol):
    """Closes connections on which nothing is asked, or an answer is not taken: uvicorn lets them stay for ever."""

    _end: asyncio.TimerHandle

    @property
    def is_read(self) -> bool:
        """Whether a part of what is sent has not come yet."""
        return self.cycle is not None and self.cycle.more_body

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in its base
        super().connection_made(transport)
        self._end = self.loop.call_later(IDLE, transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end.cancel()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        before = self.cycle
        super().handle_events()
        if self.cycle is not before and not self.cycle.response_complete:
            self._allow(EXCHANGE)

    def on_response_complete(self) -> None:
        self._allow(IDLE)
        super().on_response_complete()

    def _allow(self, seconds: float) -> None:
        self._end.cancel()
        self._end = self.loop.call_later(seconds, self.transport.abort)


async def _read(request: Request, name: str, most: int, bodies: Bodies, content: bytearray) -> None:
    """Puts what is sent into `content`.

    Raises:
        Refused: it is too much, or comes too slowly.
        ClientDisconnect: the client has gone away.
    """
    too_much = Refused(f"{name} has more than {most / 1e6:g} MB, the limit", 413)
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > most:
        raise too_much  # before anything is sent, where the client waits for that (Expect: 100-continue)
    begun = asyncio.get_running_loop().time()
    try:
        async with asyncio.timeout(FIRST) as limit:
            async for part in request.stream():
                if len(content) + len(part) > most:
                    raise too_much
                bodies.hold(len(part))
                content += part
                limit.reschedule(begun + FIRST + len(content) / RATE)
    except TimeoutError:
        raise Refused(f"{name} comes too slowly: {len(content)} bytes so far; try again", 408) from None


async def _done(worker: Worker, work: Callable[[Check], dict[str, Any]], request: Request) -> dict[str, Any]:
    """What a piece of work comes to; it is dropped where the client goes away or it waits too long.

    Raises:
        Full: too many are waiting.
        Refused: its turn has not come, within the time or before the server ends.
        Dropped: the client has gone away, or the server ends while the image is looked at.
        DataError: the image cannot be used.
    """
    job = worker.submit(work)
    late = asyncio.get_running_loop().call_later(PATIENCE, worker.withdraw, job)
    result, gone = asyncio.wrap_future(job.result), asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait([result, gone], return_when=asyncio.FIRST_COMPLETED)
        if not result.done():
            raise Cancelled
        if result.cancelled():
            raise Refused("the server is busy: the image's turn has not come; try again", 503, again=True)
        found: dict[str, Any] = result.result()
        return found
    finally:
        late.cancel()
        gone.cancel()
        worker.drop(job)
        result.cancel()  # else asyncio complains that nobody has asked for it


async def _gone(request: Request) -> None:
    """Waits until the client has gone away."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


class _Guarded:
    """Refuses what a page of somebody else asks for, and says how an answer may be used."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Request(scope).headers
        origin = headers.get("origin")

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] += [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
            await send(message)

        foreign = origin is not None and origin.partition("://")[2] != headers.get("host")
        answer = _refused(f"pages of {origin} may not ask here", 403) if foreign else self._app
        await answer(scope, receive, sent)


def _refused(what: str, status: int, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"error": what}, status, headers)
