"""The server of `serve`: one page and its requests, by default only for this machine.

Memory is limited: by the number of connections, by the bytes of request bodies, and by decoding one image at a time.
Clients that send too slowly, wait too long or have disconnected take no place in the queue.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from ffdi.core import names, signals
from ffdi.core.errors import ConfigError, DataError, format_count
from ffdi.core.translation import translate
from ffdi.evaluation import score_names
from ffdi.inference.explain import FULL, MAX_PIXELS, ImageExplainer
from ffdi.inference.worker import Cancelled, Check, Full, Worker
from ffdi.pages import template

LOOPBACK = ("127.0.0.1", "localhost", "::1")
MAX_PORT = 65_535
MAX_CONNECTIONS = 256
"""Limit of open connections, which take some kilobytes each; further ones get status 503."""
MAX_WAITING = 64
"""Limit of waiting images."""
MAX_BODIES = 8
"""Limit of request bodies in memory, in images of the largest size."""
QUEUE_SECONDS = 30.0
"""Limit of an image's seconds in the queue."""
RETRY_SECONDS = 2
"""Value of Retry-After."""
BODY_SECONDS, MIN_BODY_RATE = 10.0, 100_000
"""Seconds for the start of a request body, and bytes that have to come in each further second."""
IDLE_SECONDS = 10.0
"""Limit of a connection's seconds without a request."""
RESPONSE_SECONDS = 900.0
"""Limit of the seconds from a request to the end of its response."""
SHUTDOWN_SECONDS = 0.2
"""Seconds for pending responses when the server ends."""
POLICY = (
    "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'unsafe-inline'; img-src data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The page loads nothing from other servers, and no other page can embed it."""
HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store"}


@dataclass(frozen=True)
class Limits:
    """Limits of requests.

    Attributes:
        host: the address of the server.
        bytes: largest size of an image.
        hosts: further host names in requests, such as that of a proxy.
    """

    host: str
    bytes: int
    hosts: tuple[str, ...] = ()

    @property
    def is_local(self) -> bool:
        """True if only this machine can connect."""
        return self.host in LOOPBACK


class Refused(Exception):
    """A refused request: a message, a status, and Retry-After if `again` is True."""

    def __init__(self, what: str, status: int, *, again: bool = False) -> None:
        super().__init__(what)
        self.response = _build_refusal(what, status, {"Retry-After": str(RETRY_SECONDS)} if again else {})


class Bodies:
    """Counts the bytes of request bodies in memory.

    Args:
        most: their limit.
    """

    def __init__(self, most: int) -> None:
        self._most, self._held = most, 0

    def hold(self, count: int) -> None:
        """Adds bytes.

        Raises:
            Refused: above the limit.
        """
        if self._held + count > self._most:
            raise Refused("the server has too many images in memory; try again", 503, again=True)
        self._held += count

    def release(self, count: int) -> None:
        self._held -= count


def build_app(explainer: ImageExplainer, limits: Limits, worker: Worker) -> Starlette:
    """Builds the application: GET / (the page), POST /score and POST /look, both with one encoded image.

    The image is the body, or the file of a form (`curl -F file=@a.jpg`). `?img_name=` is its name in errors; by default
    that of the form's file. /score returns {"img_name", "y_pred"}; /look also returns pictures and a heat map. Errors
    are {"error"} with a status: 400 for an unusable image, name or form, 408 for a slow upload, 413 for a large one,
    and 503 with Retry-After for a full queue.
    """
    bodies = Bodies(MAX_BODIES * limits.bytes)

    async def page(_request: Request) -> Response:
        nonce = secrets.token_urlsafe(16)
        text = template.render(
            "serve.html.j2",
            explainer=explainer,
            pooled=score_names.POOLED,
            nonce=nonce,
            bytes=limits.bytes,
            pixels=MAX_PIXELS,
            full=FULL,
        )
        return HTMLResponse(text, headers={"Content-Security-Policy": POLICY.format(nonce=nonce)})

    async def respond(work: Callable[[bytes, str, Check], dict[str, Any]], request: Request) -> Response:
        name = request.query_params.get("img_name", "the image")
        content, held = bytearray(), 0
        try:
            _check_name(name)
            if worker.is_full:
                raise Full
            await _read_body(request, name, limits.bytes, bodies, content)
            body, held = bytes(content), len(content)
            content.clear()  # one copy is enough
            if request.headers.get("content-type", "").startswith("multipart/form-data"):
                name, body = await _read_form(request, body, name)
            return JSONResponse(await _wait_for_result(worker, partial(work, body, name), request))
        except DataError as error:
            return _build_refusal(error.what, 400)
        except Refused as refused:
            return refused.response
        except Full:
            return Refused("the server has too many images waiting; try again", 503, again=True).response
        except (ClientDisconnect, Cancelled):
            return _build_refusal("the client has disconnected, or the server has ended", 503)
        except Exception as error:  # of OpenCV or of the runtime, about one image: the server continues
            print(names.escape(f"{name}: {type(error).__name__}: {error}"), file=sys.stderr)
            return _build_refusal("the server could not score this image", 500)
        finally:
            bodies.release(held + len(content))

    routes = [
        Route("/", page),
        Route("/score", partial(respond, explainer.score), methods=["POST"]),
        Route("/look", partial(respond, explainer.explain), methods=["POST"]),
    ]
    hosts = [*LOOPBACK, "[::1]", limits.host, *limits.hosts] if limits.is_local else ["*"]
    middleware = [
        Middleware(TrustedHostMiddleware, allowed_hosts=hosts),  # refuses other host names (DNS rebinding)
        Middleware(_OriginGuard, hosts=limits.hosts),
    ]
    return Starlette(routes=routes, middleware=middleware)


def open_socket(host: str, port: int) -> socket.socket:
    """Opens a listening socket.

    Args:
        host: a name or an address.
        port: 0 for a free one.

    Raises:
        ConfigError: the address is invalid or in use.
    """
    try:
        if port > MAX_PORT:  # the system would use the port modulo 65,536
            raise OverflowError("no such port")
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        found = socket.socket(family, kind, protocol)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
        found.listen(MAX_CONNECTIONS)
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"--host {host} --port {port} cannot be used: {getattr(error, 'strerror', None) or error}",
            hint="pass a --host of this machine and a --port that is free; --port 0 finds one",
        ) from None
    return found


def serve(explainer: ImageExplainer, limits: Limits, found: socket.socket) -> None:
    """Runs the server until Ctrl-C or SIGTERM; then drops all waiting images, and the running one at its next step."""
    worker = Worker(MAX_WAITING)
    config = uvicorn.Config(
        build_app(explainer, limits, worker),
        http=_Protocol,
        ws="none",
        log_config=None,
        log_level=logging.ERROR,  # refusals are responses, not log lines
        access_log=False,
        limit_concurrency=MAX_CONNECTIONS,
        lifespan="off",
        timeout_graceful_shutdown=2,  # for connections that `_Server` has not closed
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
        self._abort(lambda connection: connection.is_read)  # images of pending uploads would never be scored
        asyncio.get_running_loop().call_later(SHUTDOWN_SECONDS, self._abort, lambda _: True)
        await super().shutdown(sockets)

    def _abort(self, which: Callable[[_Protocol], bool]) -> None:
        for connection in list(self.server_state.connections):
            if isinstance(connection, _Protocol) and which(connection):
                connection.transport.abort()


class _Protocol(H11Protocol):
    """Closes connections without a request, or with an unread response; uvicorn keeps them for ever."""

    _end: asyncio.TimerHandle

    @property
    def is_read(self) -> bool:
        """True if a part of the request body is missing."""
        return self.cycle is not None and self.cycle.more_body

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in its base
        super().connection_made(transport)
        self._end = self.loop.call_later(IDLE_SECONDS, transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end.cancel()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        before = self.cycle
        super().handle_events()
        if self.cycle is not before and not self.cycle.response_complete:
            self._allow(RESPONSE_SECONDS)

    def on_response_complete(self) -> None:
        self._allow(IDLE_SECONDS)
        super().on_response_complete()

    def _allow(self, seconds: float) -> None:
        self._end.cancel()
        self._end = self.loop.call_later(seconds, self.transport.abort)


async def _read_body(request: Request, name: str, most: int, bodies: Bodies, content: bytearray) -> None:
    """Reads the request body into `content`.

    Raises:
        Refused: it is too large or too slow.
        ClientDisconnect: the client has disconnected.
    """
    too_much = Refused(f"{name} has more than {most / 1e6:g} MB, the limit", 413)
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > most:
        raise too_much  # before the upload, if the client waits (Expect: 100-continue)
    started = asyncio.get_running_loop().time()
    try:
        async with asyncio.timeout(BODY_SECONDS) as limit:
            async for part in request.stream():
                if len(content) + len(part) > most:
                    raise too_much
                bodies.hold(len(part))
                content += part
                limit.reschedule(started + BODY_SECONDS + len(content) / MIN_BODY_RATE)
    except TimeoutError:
        raise Refused(f"{name} comes too slowly: {format_count(len(content), 'byte')} so far; try again", 408) from None


def _check_name(name: str) -> None:
    if fault := names.find_fault(name):
        raise Refused(f"the image name {names.quote(name)} {fault}", 400)


async def _read_form(request: Request, body: bytes, name: str) -> tuple[str, bytes]:
    """The name and the content of the file in a form.

    Raises:
        Refused: the form is damaged, or has no file, or several; or the name of the file is refused.
    """

    async def stream() -> AsyncGenerator[bytes]:
        yield body

    parser = MultiPartParser(request.headers, stream(), max_files=1, max_fields=10)
    parser.spool_max_size = len(body) + 1  # no temporary file
    try:
        form = await parser.parse()
    except (MultiPartException, KeyError) as error:
        raise Refused(f"the form cannot be read: {getattr(error, 'message', 'it has no boundary')}", 400) from None
    files = [part for _, part in form.multi_items() if isinstance(part, UploadFile)]
    if not files:
        raise Refused("the form has no file: send one with curl -F file=@face.jpg", 400)
    content = await files[0].read()
    await form.close()
    name = request.query_params.get("img_name") or files[0].filename or name
    _check_name(name)
    return name, content


async def _wait_for_result(worker: Worker, work: Callable[[Check], dict[str, Any]], request: Request) -> dict[str, Any]:
    """Runs a job, and returns its result; drops the job if the client disconnects or the job waits too long.

    Raises:
        Full: the queue is full.
        Refused: the job was not started in time, or before the server ended.
        Cancelled: the client has disconnected, or the server has ended.
        DataError: the image cannot be used.
    """
    job = worker.submit(work)
    late = asyncio.get_running_loop().call_later(QUEUE_SECONDS, worker.withdraw, job)
    result, gone = asyncio.wrap_future(job.result), asyncio.ensure_future(_wait_for_disconnect(request))
    try:
        await asyncio.wait([result, gone], return_when=asyncio.FIRST_COMPLETED)
        if not result.done():
            raise Cancelled
        if result.cancelled():
            raise Refused("the server is busy: the image has waited too long; try again", 503, again=True)
        found: dict[str, Any] = result.result()
        return found
    finally:
        late.cancel()
        gone.cancel()
        worker.drop(job)
        result.cancel()  # else asyncio warns about a result without a reader


async def _wait_for_disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


class _OriginGuard:
    """Refuses requests of pages from other origins, and adds security headers to responses."""

    def __init__(self, app: ASGIApp, hosts: tuple[str, ...]) -> None:
        self._app, self._hosts = app, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Request(scope).headers
        origin = headers.get("origin")

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] += [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
            await send(message)

        own = (headers.get("host"), *self._hosts)
        foreign = origin is not None and origin.partition("://")[2] not in own
        answer = _build_refusal(f"pages of {origin} may not use this server", 403) if foreign else self._app
        await answer(scope, receive, sent)


def _build_refusal(what: str, status: int, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"error": translate(what)}, status, headers)
