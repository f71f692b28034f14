"""How much is taken in at a time, and who has to come again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from starlette.requests import ClientDisconnect, Request

from ffdi.inference import server
from ffdi.inference.server import Bodies, Refused
from ffdi.inference.worker import Worker

LIMIT = 1000


class Upload:
    """The request body of a client in parts; then it waits or disconnects."""

    def __init__(self, *parts: bytes, more: bool = False, goes: bool = False, **headers: str) -> None:
        self._messages: list[dict[str, Any]] = [
            {"type": "http.request", "body": part, "more_body": more or number < len(parts) - 1}
            for number, part in enumerate(parts)
        ]
        self._messages += [{"type": "http.disconnect"}] if goes else []
        named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        scope = {"type": "http", "method": "POST", "path": "/score", "query_string": b"", "headers": named}
        self.request = Request(scope, self._receive)

    async def _receive(self) -> dict[str, Any]:
        if not self._messages:
            await asyncio.Event().wait()
        return self._messages.pop(0)


def read(upload: Upload, most: int = 8 * LIMIT) -> bytes:
    """The body that arrives."""
    content = bytearray()
    asyncio.run(server._read_body(upload.request, "a.jpg", LIMIT, Bodies(most), content))
    return bytes(content)


def refused(act: Callable[[], object]) -> tuple[int, str, str | None]:
    """Status, words, and when to come again."""
    with pytest.raises(Refused) as caught:
        act()
    response = caught.value.response
    return response.status_code, str(caught.value), response.headers.get("retry-after")


def test_a_body_is_read_in_parts() -> None:
    assert read(Upload(b"abc", b"", b"def")) == b"abcdef"
    with pytest.raises(ClientDisconnect):
        read(Upload(b"abc", more=True, goes=True))


def test_a_body_that_is_too_large_is_not_read_completely() -> None:
    refusal = (413, "a.jpg has more than 0.001 MB, the limit", None)
    assert refused(lambda: read(Upload(b"x" * 600, b"x" * 600, more=True))) == refusal
    assert refused(lambda: read(Upload(content_length="1001"))) == refusal


def test_a_slow_body_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "BODY_SECONDS", 0.05)
    refusal = (408, "a.jpg comes too slowly: 3 bytes so far; try again", None)
    assert refused(lambda: read(Upload(b"abc", more=True))) == refusal


def test_the_bodies_of_all_clients_are_limited() -> None:
    refusal = (503, "the server has too many images in memory; try again", "2")
    assert refused(lambda: read(Upload(b"x" * 600), most=599)) == refusal
    bodies = Bodies(10)
    bodies.hold(10)
    with pytest.raises(Refused):
        bodies.hold(1)
    bodies.release(4)
    bodies.hold(4)


def test_a_job_that_waits_too_long_is_refused_and_never_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "QUEUE_SECONDS", 0.0)
    done = list[str]()

    async def send_request() -> None:
        worker, ended = Worker(8), asyncio.Event()
        loop = asyncio.get_running_loop()
        before = worker.submit(lambda _check: asyncio.run_coroutine_threadsafe(ended.wait(), loop).result(30))
        try:
            await server._wait_for_result(worker, lambda _check: {"done": done.append("late")}, Upload().request)
        finally:
            ended.set()
            await asyncio.wrap_future(before.result)

    refusal = (503, "the server is busy: the image has waited too long; try again", "2")
    assert refused(lambda: asyncio.run(send_request())) == refusal
    assert done == []
