"""Serving an export to a browser: what it answers, what it refuses, and how its page behaves."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from playwright.sync_api import Browser, Page, Route

from ffdi.commands import serve
from ffdi.core.errors import ConfigError
from ffdi.data.images.resizing import ResizePolicy
from ffdi.inference import explain
from ffdi.inference.explain import ImageExplainer
from ffdi.inference.server import open_socket
from ffdi.reporting import views
from tests import browser
from tests.conftest import PROJECT, Invoke
from tests.face_networks import draw_disc, write_mesh


@pytest.fixture(scope="module")
def port(trained: Path) -> Iterator[int]:
    """Where the tiny export is served, by the command in a process of its own; it is stopped while requests wait."""
    command = [sys.executable, "-m", "invoke", "serve", "--experiment", "tiny", "--port", "0", "--json"]
    server = subprocess.Popen(
        [*command, "--device", "cpu", "--max-mb", "1", "--allow-host", "faces.example"],
        cwd=PROJECT,
        env={**os.environ, "FFDI_ROOT": str(trained)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    try:
        announced = json.loads(server.stdout.readline())  # while it runs
        found = re.fullmatch(r"http://127\.0\.0\.1:(\d+)", announced["url"])
        assert found, announced
        yield int(found[1])
        large, connections = flat(4999, 4999), []
        for body, length in [*[(large, len(large))] * 8, *[(b"x", 1000)] * 8]:  # images that wait, and uploads
            connections.append(socket.create_connection(("127.0.0.1", int(found[1]))))
            head = f"POST /look HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n"
            connections[-1].sendall(head.encode())
            connections[-1].sendall(body)
        server.send_signal(signal.SIGTERM)
        out, err = server.communicate(timeout=30)
        assert (server.returncode, err) == (0, "")
        assert json.loads(out)["lines"] == [
            "serve tiny: images of 32 px, squash",
            "runs on: CPUExecutionProvider (ONNX Runtime on the CPU, 1 x 1 thread)",
            f"open {announced['url']} in a browser; Ctrl-C ends it",
            "ended",
        ]
        for connection in connections:
            connection.close()
    finally:
        server.kill()


def flat(width: int, height: int) -> bytes:
    """A PNG of one colour, which is small however large it is."""
    return cv2.imencode(".png", np.full((height, width, 3), 128, np.uint8))[1].tobytes()


def ask(port: int, path: str, body: bytes = b"", method: str = "POST", **headers: str) -> tuple[int, Any]:
    """Status and JSON of an answer."""
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, json.loads(content) if answer.headers["content-type"] == "application/json" else content


def test_scores_are_those_of_predict_onnx(port: int, trained: Path, competition: Path) -> None:
    known = pd.read_csv(trained / "exports" / "tiny" / "onnx_scores.csv", index_col="img_name").y_pred
    for name in known.index[:5]:
        status, found = ask(port, f"/score?img_name={name}", (competition / "testset" / name).read_bytes())
        assert (status, set(found), found["img_name"]) == (200, {"img_name", "y_pred"}, name)
        assert isinstance(found["y_pred"], float)
        assert found["y_pred"] == pytest.approx(known[name], abs=1e-6)
    status, looked = ask(port, f"/look?img_name={name}", (competition / "testset" / name).read_bytes())
    assert (status, looked["y_pred"], looked["width"], looked["height"]) == (200, found["y_pred"], 40, 40)
    assert list(looked["looks"]) == list(views.list_views(None))
    assert looked["picture"].startswith("data:image/webp;base64,")


def test_what_cannot_be_used_is_refused_in_words(port: int, competition: Path) -> None:
    whole = next((competition / "testset").iterdir()).read_bytes()
    assert ask(port, "/score?img_name=a.jpg") == (400, {"error": "a.jpg is empty"})
    assert ask(port, "/score?img_name=a.gif", b"GIF89a" + bytes(40)) == (
        400,
        {"error": "a.gif is not an image that ffdi reads (JPEG, PNG, BMP, WEBP, TIFF)"},
    )
    assert ask(port, "/look?img_name=b.jpg", whole[:900])[0] == 400
    assert ask(port, "/score", bytes(1_000_001)) == (413, {"error": "the image has more than 1 MB, the limit"})
    assert ask(port, "/score", method="GET")[0] == 405
    assert ask(port, "/elsewhere", method="GET")[0] == 404


def test_pixels_are_limited_and_a_strip_is_looked_at(port: int) -> None:
    assert ask(port, "/look?img_name=a.png", flat(7200, 7200)) == (
        400,
        {"error": "a.png has 7200 x 7200 pixels; the limit is 50500000"},
    )
    for width, height in ((30_000, 1), (1, 30_000), (1, 1)):
        status, looked = ask(port, "/look?img_name=a.png", flat(width, height))
        assert (status, looked["width"], looked["height"]) == (200, width, height)


def form(content: bytes, name: str = "a b.jpg", field: str = "file") -> bytes:
    """What `curl -F file=@NAME` sends, with the boundary 'x'."""
    kind = f'; filename="{name}"\r\nContent-Type: image/jpeg' if name else ""
    head = f'--x\r\nContent-Disposition: form-data; name="{field}"{kind}\r\n\r\n'
    return head.encode() + content + b"\r\n--x--\r\n"


MULTIPART = {"Content-Type": "multipart/form-data; boundary=x"}


def test_a_refused_name_is_refused_before_the_image_is_read(port: int) -> None:
    status, found = ask(port, "/score?img_name=a%1B.jpg", bytes(1_000_001))
    assert (status, found["error"]) == (400, "the image name 'a\\x1b.jpg' has a control character: U+001B")


def test_the_file_of_a_form_is_scored(port: int, competition: Path) -> None:
    whole = next((competition / "testset").iterdir()).read_bytes()
    _, plain = ask(port, "/score", whole)
    expected = (200, {"img_name": "a b.jpg", "y_pred": plain["y_pred"]})
    assert ask(port, "/score", form(whole), **MULTIPART) == expected
    assert ask(port, "/score?img_name=c.jpg", form(whole, field="image"), **MULTIPART)[1]["img_name"] == "c.jpg"
    assert ask(port, "/look", form(whole), **MULTIPART)[0] == 200


@pytest.mark.parametrize(
    ("body", "kind", "status", "error"),
    [
        (form(b"x", name=""), "multipart/form-data; boundary=x", 400, "the form has no file: send one with curl -F"),
        (form(b"x")[:-9], "multipart/form-data; boundary=x", 400, "the form has no file: send one with curl -F"),
        (form(b"x"), "multipart/form-data", 400, "the form cannot be read: "),
        (form(b"x")[:-7] + form(b"y"), "multipart/form-data; boundary=x", 400, "the form cannot be read: "),
        (form(b"x", name="a\x1b.jpg"), "multipart/form-data; boundary=x", 400, "the image name 'a\\x1b.jpg' has a"),
        (form(bytes(1_000_000)), "multipart/form-data; boundary=x", 413, "the image has more than 1 MB, the limit"),
    ],
)
def test_a_form_without_a_usable_file_is_refused(port: int, body: bytes, kind: str, status: int, error: str) -> None:
    found = ask(port, "/score", body, **{"Content-Type": kind})
    assert found[0] == status
    assert found[1]["error"].startswith(error)


def test_a_client_that_has_gone_away_does_not_keep_others_waiting(port: int, competition: Path) -> None:
    whole = next((competition / "testset").iterdir()).read_bytes()
    for _ in range(20):
        connection = HTTPConnection("127.0.0.1", port)
        connection.request("POST", "/look", whole)
        connection.close()
    assert ask(port, "/score", whole)[0] == 200


def test_pages_of_others_may_not_ask(port: int, competition: Path) -> None:
    whole = next((competition / "testset").iterdir()).read_bytes()
    assert ask(port, "/score", whole, Origin="http://evil.example") == (
        403,
        {"error": "pages of http://evil.example may not use this server"},
    )
    assert ask(port, "/score", whole, Origin=f"http://127.0.0.1:{port}")[0] == 200
    assert ask(port, "/", method="GET", Host="evil.example") == (400, b"Invalid host header")
    assert ask(port, "/score", whole, Host="faces.example")[0] == 200
    assert ask(port, "/score", whole, Origin="https://faces.example")[0] == 200  # a proxy may keep its own host


@pytest.fixture(params=browser.WIDTHS)
def opened(request: pytest.FixtureRequest, chromium: Browser, port: int) -> Iterator[tuple[Page, list[str]]]:
    """The page at a width, and what its console says."""
    with browser.opened(chromium, f"http://127.0.0.1:{port}/", request.param) as both:
        yield both


def test_images_are_dropped_and_looked_at(
    opened: tuple[Page, list[str]], competition: Path, trained: Path, tmp_path: Path
) -> None:
    page, output = opened
    known = pd.read_csv(trained / "exports" / "tiny" / "onnx_scores.csv", index_col="img_name").y_pred
    names = list(known.index[:3])
    odd = tmp_path / "no, image.jpg"
    odd.write_text("<b>")
    first, *others = (competition / "testset" / name for name in names)
    browser.check_both_themes(page)
    page.set_input_files("#files", [first, odd, *others])
    page.wait_for_selector("#picture img")
    assert page.text_content("#status") == "3 of 4 scored, 1 cannot be used"
    assert page.text_content("#title") == names[0]
    assert page.text_content("#score") == f"{known[names[0]]:.4f}"
    assert page.locator("#looks figcaption").all_text_contents() == list(views.list_views(None))
    cells = page.locator("#rows td").all_text_contents()
    assert [cells[0], *cells[2:]] == [f"{known[name]:.4f}" for name in names]
    assert cells[1] == "no, image.jpg is not an image that ffdi reads (JPEG, PNG, BMP, WEBP, TIFF)"
    page.wait_for_function("document.querySelectorAll('#rows canvas').length === 3")  # the text has no thumbnail
    assert page.evaluate("[...document.querySelectorAll('#rows canvas')].every(one => one.getContext('2d')"
                         ".getImageData(20, 20, 1, 1).data[3] === 255)")  # fmt: skip
    page.route("**/look*", lambda _: None)  # the heat map does not come
    page.click(f"text={names[2]}")
    assert page.text_content("#score") == f"{known[names[2]]:.4f}"
    assert page.text_content("#change") == "Computing the heat map …"
    page.unroute("**/look*")
    page.click(f"text={names[1]}")
    page.wait_for_selector("#picture img")
    mark, bar = (page.locator(name).bounding_box() for name in ("#scale span:nth-child(2)", "#meter"))
    assert mark
    assert bar
    assert mark["x"] + mark["width"] / 2 == pytest.approx(bar["x"] + bar["width"] / 2, abs=bar["width"] / 20)
    page.click("[data-by=y_pred]")
    shown = [name for name in page.locator("#rows .row").all_text_contents() if name in names]
    assert shown == sorted(names, key=lambda name: -known[name])
    page.click("[data-by=y_pred]")
    shown = [name for name in page.locator("#rows .row").all_text_contents() if name in names]
    assert shown == sorted(names, key=lambda name: known[name])
    page.click("[data-by=name]")
    assert page.locator("#rows .row").all_text_contents() == sorted([*names, odd.name])
    assert page.get_attribute("#by-name", "aria-sort") == "ascending"
    page.uncheck("#warm")
    assert not page.locator(".heat").is_visible()
    with page.expect_download() as saving:
        page.click("#save")
    saved = pd.read_csv(saving.value.path(), index_col="img_name").y_pred
    assert list(saved.index) == names
    assert (saved - known[names]).abs().max() < 1e-6
    browser.check_both_themes(page)
    assert [line for line in output if "400 (Bad Request)" not in line] == []  # the browser logs a refused image


def test_the_page_is_chinese(chromium: Browser, trained: Path, competition: Path) -> None:
    server = subprocess.Popen(
        [sys.executable, "-m", "invoke", "serve", "--experiment", "tiny", "--port", "0", "--json", "--device", "cpu"],
        cwd=PROJECT,
        env={**os.environ, "FFDI_ROOT": str(trained), "FFDI_LANG": "zh"},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        address = json.loads(server.stdout.readline())["url"]
        for width in browser.WIDTHS:
            with browser.opened(chromium, address, width) as (page, output):
                page.set_input_files("#files", next((competition / "testset").iterdir()))
                page.wait_for_selector("#picture img")
                browser.check_both_themes(page)
                assert page.get_attribute("html", "lang") == "zh"
                assert re.search("[\u4e00-\u9fff]", page.text_content("#change") or "")
                assert not re.search("[A-Za-z]{2,}", page.text_content("#status") or "")
                captions = page.locator("#looks figcaption").all_text_contents()
                assert len(captions) == len(views.list_views(None))
                assert not re.search("[A-Za-z]", "".join(captions))
                assert output == []
    finally:
        server.kill()
        server.wait()


def test_a_page_asks_again_where_the_server_is_busy(
    chromium: Browser, port: int, competition: Path, tmp_path: Path
) -> None:
    image, large = next((competition / "testset").iterdir()), tmp_path / "large.jpg"
    large.write_bytes(bytes(1_000_001))
    busy = {"error": "the server has too many images waiting; try again"}
    left = [*range(2)]

    def answer(route: Route) -> None:
        if "score" not in route.request.url or not left:
            return route.continue_()
        left.pop()
        return route.fulfill(status=503, json=busy, headers={"Retry-After": "0"})

    with browser.opened(chromium, f"http://127.0.0.1:{port}/", browser.WIDTHS[1]) as (page, _):
        page.route("**/*", answer)
        page.set_input_files("#files", [image, large])
        page.wait_for_selector("#picture img")
        assert left == []
        assert page.text_content("#status") == "1 of 2 scored, 1 cannot be used"
        assert page.locator("#rows td").all_text_contents()[1] == "large.jpg has more than 1 MB, the limit"
        left.extend(range(99))
        page.set_input_files("#files", image)
        page.wait_for_selector(f"td:text-is('{busy['error']}')")
        page.unroute("**/*")
        page.route("**/*", lambda route: route.abort())
        page.set_input_files("#files", image)
        page.wait_for_selector("td:text-is('the server does not answer: it has ended, or refused what was sent')")


def test_heat_lies_where_blurring_changes_the_score() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (64, 64, 3), np.uint8)
    corner = np.s_[40:64, 0:24]

    def noisy_corner(images: np.ndarray) -> np.ndarray:
        spread = images[(slice(None), *corner)].astype(np.float64).std(axis=(1, 2, 3))
        return (1 / (1 + np.exp(-(spread - 40) / 10))).astype(np.float32)

    y_pred = float(noisy_corner(pixels[None])[0])
    found = explain.occlude(noisy_corner, pixels, y_pred, 4)
    row, column = np.unravel_index(found.heat.argmax(), found.heat.shape)
    assert (row >= 40, column < 24) == (True, True)
    assert found.heat[:24, 40:].max() < 0.01
    assert found.change > 1
    assert found.heat.min() == 0
    assert 0.2 * found.change < found.heat.max() < found.change  # in logits, spread by the overlap of the windows
    other = explain.occlude(lambda images: 1 - noisy_corner(images), pixels, 1 - y_pred, 49)
    np.testing.assert_allclose(other.heat, found.heat, atol=1e-4)
    constant = explain.occlude(lambda images: np.full(len(images), 0.9, np.float32), pixels, np.float32(0.9), 7)
    assert (constant.heat.max(), constant.change) == (0, 0)


def test_parts_of_a_face_are_named_with_landmarks_alone(tmp_path: Path) -> None:
    def run(images: np.ndarray) -> np.ndarray:
        return (images[:, :24].mean(axis=(1, 2, 3)) / 255).astype(np.float32)

    graph: Any = SimpleNamespace(run=run, batch=49)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 90, (64, 64, 3), np.uint8) + draw_disc((64, 64), (32, 32), 20) // 2
    content = cv2.imencode(".png", pixels.astype(np.uint8))[1].tobytes()
    looked = {}
    for name, find in (("none", None), ("mesh", serve.open_landmarks(str(write_mesh(tmp_path / "mesh.onnx"))))):
        explainer = ImageExplainer("one", {}, graph, ResizePolicy(64), find)
        looked[name] = explainer.explain(content, "face.png", lambda: None)
    assert looked["none"]["shares"] == []
    assert list(looked["none"]["looks"]) == list(views.list_views(None))
    assert [one["part"] for one in looked["mesh"]["shares"]] == ["eyes", "mouth", "rest of the face", "background"]
    assert sum(one["heat"] for one in looked["mesh"]["shares"]) == pytest.approx(1, abs=1e-5)
    assert "mouth" in looked["mesh"]["looks"]
    dark = explainer.explain(cv2.imencode(".png", np.zeros((64, 64, 3), np.uint8))[1].tobytes(), "no.png", lambda: None)
    assert (dark["shares"], list(dark["looks"])) == ([], list(views.list_views(None)))  # no face


def test_what_keeps_it_from_serving(copy: Path, invoke: Invoke) -> None:
    answer = invoke("serve", "--experiment", "tiny", "--landmarks", "no.tflite")
    assert answer.code == 1
    assert answer.err.startswith(
        "error: --landmarks no.tflite is not a file\nnext: pass --landmarks face_landmark.tflite"
    )
    taken = open_socket("127.0.0.1", 0)
    taken.listen()
    port = taken.getsockname()[1]
    answer = invoke("serve", "--experiment", "tiny", "--port", str(port))
    assert (answer.code, answer.err) == (
        1,
        f"error: --host 127.0.0.1 --port {port} cannot be used: Address already in use\n"
        "next: pass a --host of this machine and a --port that is free; --port 0 finds one\n",
    )
    taken.close()
    with pytest.raises(ConfigError, match=r"--host no\.such\.host\.invalid --port 1 cannot be used"):
        open_socket("no.such.host.invalid", 1)
    answer = invoke("serve", "--experiment", "tiny", "--port", "70000")
    assert answer.code == 1
    assert answer.err.startswith("error: --host 127.0.0.1 --port 70000 cannot be used: no such port\n")
    (copy / "exports" / "tiny" / "bundle.json").unlink()
    answer = invoke("serve", "--experiment", "tiny")
    assert answer.err.endswith("next: invoke export-onnx --experiment tiny\n")
