"""The report: what it says, and how it behaves in a browser."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from playwright.sync_api import Browser, Page

from ffdi.core import manifests
from ffdi.reporting import headlines, views
from tests import browser, faults
from tests.conftest import Invoke


@pytest.fixture(scope="module")
def report(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of an experiment."""
    root = tmp_path_factory.mktemp("report") / "workspace"
    shutil.copytree(trained, root)
    ended = faults.run(["report", "--experiment", "tiny", "--device", "cpu"], root)
    assert ended.code == 0, ended.output
    path = root / "exports" / "tiny" / "report.html"
    assert re.search(rf"\nwritten: {path} \(\d+ example images, \d\.\d MB\): open it in a browser\n", ended.output)
    assert ended.output.endswith("\nnext: invoke ensemble-submit --experiment tiny\n")
    return path


@pytest.fixture(params=browser.WIDTHS)
def opened(request: pytest.FixtureRequest, chromium: Browser, report: Path) -> Iterator[tuple[Page, list[str]]]:
    """The page at a width, and what its console says."""
    with browser.opened(chromium, report.as_uri(), request.param, offline=True) as both:
        yield both


def choose_chinese(_root: Path) -> None:
    """In the process of the command."""
    os.environ["FFDI_LANG"] = "zh"


def test_it_opens_in_chinese(chromium: Browser, trained: Path, tmp_path: Path) -> None:
    root = tmp_path / "workspace"
    shutil.copytree(trained, root)
    assert faults.run(["report", "--experiment", "tiny", "--device", "cpu"], root, before=choose_chinese).code == 0
    address = (root / "exports" / "tiny" / "report.html").as_uri()
    for width in browser.WIDTHS:
        with browser.opened(chromium, address, width, offline=True) as (page, output):
            browser.check_both_themes(page)
            assert page.get_attribute("html", "lang") == "zh"
            assert page.text_content("h1") == "tiny"
            headings = page.locator("h2").all_text_contents()
            assert [one for one in headings if re.search("[A-Za-z]{3}", one)] == []
            assert page.locator("#threshold [data-value=threshold]").text_content() == "0.500000"
            page.locator("#gallery button").first.click()
            assert browser.barriers(page) == []
            assert output == []


def names(page: Page) -> list[str]:
    return page.eval_on_selector_all("#gallery li", "cards => cards.map(card => card.dataset.name)")


def test_it_opens_without_a_word_a_cut_or_a_barrier(opened: tuple[Page, list[str]]) -> None:
    page, output = opened
    browser.check_both_themes(page)
    page.locator("#gallery button").first.click()
    assert browser.barriers(page) == []
    assert output == []


def test_images_are_filtered_sorted_and_searched(opened: tuple[Page, list[str]], report: Path) -> None:
    page, output = opened
    oof = pd.read_csv(report.parents[2] / "experiments" / "tiny" / "oof.csv", index_col="img_name")
    everything = names(page)
    assert page.text_content("#shown") == f"{len(everything)} of {len(everything)} images"
    errors = (oof.y_pred - oof.target).abs()[everything]
    assert errors.is_monotonic_decreasing

    page.select_option("[name=target]", "1")
    fakes = names(page)
    assert set(fakes) == {name for name in everything if oof.target[name] == 1}
    page.select_option("[name=sort]", "y_pred")
    assert oof.y_pred[names(page)].is_monotonic_decreasing
    page.select_option("[name=fold]", "1")
    assert set(names(page)) == {name for name in fakes if oof.fold[name] == 1}
    page.select_option("[name=target]", "")
    page.select_option("[name=fold]", "")
    wrong = set(errors[errors > 0.5].index)
    for kind, target in (("missed", 1), ("alarm", 0)):
        page.select_option("[name=kind]", kind)
        assert set(names(page)) == {name for name in wrong if oof.target[name] == target}
    page.select_option("[name=kind]", "")
    page.fill("[name=name]", everything[3][:12].upper())
    assert names(page) == [everything[3]]
    page.fill("[name=name]", "no such image")
    assert names(page) == []
    assert page.text_content("#shown") == f"0 of {len(everything)} images"
    assert output == []


def test_an_image_is_looked_at_by_keyboard_down_to_its_pixels(opened: tuple[Page, list[str]]) -> None:
    page, output = opened
    first, second = names(page)[:2]
    page.locator("#gallery button").first.focus()
    page.keyboard.press("Enter")
    assert page.text_content("dialog h3") == first
    picture = page.locator(".panes .picture").first
    page.fill("#zoom", "1")
    assert picture.bounding_box()["width"] == 256  # type: ignore[index]
    page.fill("#zoom", "8")
    assert picture.bounding_box()["width"] == 8 * 256  # type: ignore[index]
    assert page.eval_on_selector(".panes img", "image => getComputedStyle(image).imageRendering") == "pixelated"
    assert page.locator(".views figcaption").all_text_contents() == list(views.list_views(None))
    page.fill("#zoom", "1")
    assert not page.locator(".panes .heat").is_visible()
    page.check("#warm")
    plain, heated = (page.locator(".panes .picture").nth(place).bounding_box() for place in (0, 1))
    assert plain
    assert heated
    assert (plain["x"], plain["y"]) != (heated["x"], heated["y"])  # side by side
    assert page.locator(".panes .picture:first-child .heat").count() == 0
    assert page.locator(".panes .heat").is_visible()
    assert page.is_checked("#filter [name=heat]")  # one switch
    page.locator("#close").focus()
    page.keyboard.press("ArrowRight")
    assert page.text_content("dialog h3") == second
    page.keyboard.press("Escape")
    assert not page.locator("dialog").is_visible()
    assert page.locator("#gallery .heat").first.is_visible()
    # the dialog's event comes after it is hidden
    page.wait_for_function("name => document.activeElement.closest('li')?.dataset.name === name", arg=second)
    assert output == []


def test_a_chart_shows_its_values_to_pointer_and_keyboard(opened: tuple[Page, list[str]], report: Path) -> None:
    page, output = opened
    titles = page.locator(".chart figcaption").all_text_contents()
    assert titles[:2] == ["ROC", "ROC with few false positives, 1e-3 marked"]
    assert all(titles)
    chart = page.locator(".chart", has_text="Held-out AUC over the epochs")
    assert len(chart.locator("text").all_text_contents()) > 4  # the axes' labels and ticks
    history = pd.read_csv(report.parents[2] / "experiments" / "tiny" / "fold_0" / "history.csv")
    chart.locator(".plot").focus()
    for epoch, auc in zip(history.epoch, history.heldout_auc, strict=True):
        page.keyboard.press("ArrowRight")
        assert chart.locator("output").text_content() == f"fold 0: epoch {epoch}, AUC {auc:.4f}"
    dot, box = chart.locator("circle"), chart.locator("svg").bounding_box()
    assert box
    scale = box["width"] / float((chart.locator("svg").get_attribute("viewBox") or "").split()[2])
    place = {"x": scale * float(dot.get_attribute("cx") or 0), "y": scale * float(dot.get_attribute("cy") or 0)}
    shown = chart.locator("output").text_content()
    page.keyboard.press("ArrowLeft")
    chart.locator("svg").hover(position=place)  # type: ignore[arg-type]
    assert chart.locator("output").text_content() == shown
    assert output == []


def test_the_threshold_gives_the_errors_and_the_lowest_cost(opened: tuple[Page, list[str]], report: Path) -> None:
    page, output = opened
    oof = pd.read_csv(report.parents[2] / "experiments" / "tiny" / "oof.csv")

    def read(name: str) -> str:
        return page.text_content(f"#threshold [data-value={name}]") or ""

    def count(threshold: float) -> tuple[int, int]:
        """Missed fakes and false alarms."""
        called = oof.y_pred >= threshold
        return int((~called & (oof.target == 1)).sum()), int((called & (oof.target == 0)).sum())

    assert read("threshold") == "0.500000"
    missed, alarms = count(0.5)
    assert (int(read("missed")), int(read("alarms")), int(read("cost"))) == (missed, alarms, missed + alarms)
    assert int(read("caught")) + missed == (oof.target == 1).sum()
    assert int(read("passed")) + alarms == (oof.target == 0).sum()
    assert read("accuracy") == f"{100 * (1 - (missed + alarms) / len(oof)):.1f} %"
    page.fill("#threshold [name=miss]", "5")
    page.click("#threshold [name=cheapest]")
    costs = [5 * missed + alarms for missed, alarms in map(count, [*oof.y_pred, 0.5, 2.0])]
    assert float(read("cost")) == min(costs)
    page.fill("#threshold [name=place]", "0")
    assert (read("missed"), read("tpr"), read("fpr")) == ("0", "100.0 %", "100.0 %")
    assert output == []


def test_the_map_leads_to_an_image(opened: tuple[Page, list[str]]) -> None:
    page, output = opened
    canvas = page.locator("#map .map canvas")
    canvas.scroll_into_view_if_needed()
    page.wait_for_function("document.querySelector('#map .map canvas').dataset.visible === '64'")
    assert canvas.get_attribute("data-pictures") == "0"
    assert page.locator("#map .legend li").all_text_contents() == ["real", "fake"]
    page.select_option("#map [name=colour]", "error")
    page.wait_for_function("document.querySelectorAll('#map .legend li').length === 5")
    page.click("#map [name=in]")
    page.wait_for_function("Number(document.querySelector('#map .map canvas').dataset.pictures) > 0")
    assert 0 < int(canvas.get_attribute("data-visible") or 0) < 64
    canvas.focus()
    page.keyboard.press("-")
    page.wait_for_function("document.querySelector('#map .map canvas').dataset.visible === '64'")
    box = canvas.bounding_box()
    assert box
    for step in range(400):  # until the pointer finds an image of the gallery
        canvas.hover(
            position={"x": box["width"] * (step % 20 + 0.5) / 20, "y": box["height"] * (step // 20 + 0.5) / 20}
        )
        if page.locator("#map .found button").count():
            break
    shown = page.text_content("#map .found span") or ""
    name = shown.partition(":")[0]
    assert re.fullmatch(r".*: (real|fake), y_pred [01]\.\d{4}", shown)
    page.click("#map .found button")
    assert page.text_content("dialog h3") == name
    assert output == []


def test_the_page_shows_what_the_network_is_shown(report: Path) -> None:
    content = report.read_text()
    section = content[content.index("<h2>What the network is shown</h2>") :]
    section = section[: section.index("</section>")]
    assert "augment.recipe = &#39;" in section
    words = re.findall(r"<span>(real|fake|pseudo-fake)</span>", section)
    assert len(words) == section.count("data:image/webp") == 8  # the batch size


def test_it_needs_nothing_beside_it_and_says_all_there_is(report: Path) -> None:
    content = report.read_text()
    assert re.findall(r'(?:src|href)="(?!data:|#)[^"]*"', content) == []
    assert "http" not in re.sub(r'xmlns(:xlink)?="[^"]*"', "", content)
    for heading in (
        "Scores", "Real against fake", "Learning curves", "Agreement", "Kinds of images", "Threshold", "Images", "Map",
        "What the network is shown", "Data", "Origin",
    ):  # fmt: skip
        assert f"<h2>{heading}</h2>" in content
    assert "Not available. Run: invoke score --experiment tiny --shift --stress, then this report again." in content
    assert "tiny/config.toml" in content
    assert len(content) < 20e6


def test_the_main_numbers_come_first_and_then_what_to_do(report: Path) -> None:
    content = report.read_text()
    root = report.parents[2]
    metrics = json.loads((root / "experiments" / "tiny" / "metrics.json").read_text())
    tiles = re.findall(r"<li><span>(.*?)</span><strong>(.*?)</strong><span>(.*?)</span></li>", content)
    values = {label: value for label, value, _ in tiles}
    assert values == {
        "AUC (OOF, pooled)": f"{metrics['pooled']['auc']:.4f}",
        "validation AUC (mean of the networks)": f"{metrics['val']['mean']['auc']:.4f}",
        "AUC under stress": headlines.NONE,
        "submission": headlines.NONE,
    }
    low, high = metrics["pooled"]["intervals"]["auc"]
    assert tiles[0][2] == f"95 %: {low:.3f} to {high:.3f}; without TTA"
    assert tiles[3][2] == "written, not sent"
    assert re.findall(r"<code>(invoke [^<]*)</code>", content) == [
        "invoke score --experiment tiny --stress",
        "invoke submit --experiment tiny --competition NAME",
    ]
    assert content.index("What to do next") < content.index("<nav")


def test_the_tiles_follow_what_is_done(copy: Path, invoke: Invoke) -> None:
    assert invoke("score", "--experiment", "tiny", "--stress").code == 0
    sent = [{"time": "2026-01-02T00:00:00", "public_score": "0.625"}]
    manifests.write_manifest(copy / "exports" / "tiny" / "submissions.json", {"sent": sent})
    (copy / "exports" / "tiny" / "bundle.json").unlink()
    assert invoke("report", "--experiment", "tiny").code == 0
    content = (copy / "exports" / "tiny" / "report.html").read_text()
    stress = json.loads((copy / "experiments" / "tiny" / "stress.json").read_text())
    oof = json.loads((copy / "experiments" / "tiny" / "metrics.json").read_text())["pooled"]["auc"]
    assert f"<span>AUC under stress</span><strong>{stress['mean_auc']:.4f}</strong>" in content
    assert f"<strong>0.6250</strong><span>public score, 2026-01-02, {0.625 - oof:+.4f} against OOF, pooled" in content
    assert re.findall(r"<code>(invoke [^<]*)</code>", content) == ["invoke export-onnx --experiment tiny"]
    (copy / "exports" / "tiny" / "submissions.json").write_text("{}")
    assert invoke("report", "--experiment", "tiny").code == 0
    content = (copy / "exports" / "tiny" / "report.html").read_text()
    assert "submissions.json was not written by this version of ffdi" in content


def test_several_experiments_stand_side_by_side(copy: Path, invoke: Invoke) -> None:
    twin = copy / "experiments" / "twin<b>"
    (copy / "experiments" / "tiny" / "doctor.json").unlink()
    shutil.copytree(copy / "experiments" / "tiny", twin)
    answer = invoke("report", "--experiment", "tiny", "--experiment", "twin<b>", "--name", "both")
    assert (answer.code, answer.err) == (0, "")
    content = (copy / "exports" / "both" / "report.html").read_text()
    assert "twin<b>" not in content
    assert content.count("twin&lt;b&gt;") > 5
    assert "<h2>Comparison</h2>" in content
    assert "only twin&lt;b&gt; gets 0 images right, only tiny 0" in content
    assert "Experiments, on their out-of-fold logits" in content
    assert "ensemble, by mean: OOF, pooled, nested" in content
    assert "<span>ensemble, AUC (OOF, mean of folds)</span>" in content
    assert "Not available. Run: invoke doctor --experiment tiny, then this report again." in content


def test_what_keeps_a_report_from_being_written(copy: Path, workspace: Path, invoke: Invoke) -> None:
    shutil.rmtree(copy / "experiments" / "tiny" / "fold_1")
    answer = invoke("report", "--experiment", "tiny")
    assert (answer.code, answer.err) == (
        1,
        "error: experiment tiny is not complete; still to train: fold 1\nnext: invoke train-folds --experiment tiny\n",
    )
    assert not (workspace / "exports" / "tiny" / "report.html").exists()
    for words, what in (
        (["--experiment", "tony"], "error: no experiment 'tony'"),
        (["--experiment", "tiny", "--name", "a/b"], "error: --name 'a/b' is no folder name"),
    ):
        answer = invoke("report", *words)
        assert answer.code == 1
        assert answer.err.startswith(what)


def test_other_images_than_those_it_was_trained_on_are_refused(copy: Path, tmp_path: Path, invoke: Invoke) -> None:
    from tests.conftest import write_split

    write_split(tmp_path / "other", "train", 20, 9)
    answer = invoke("report", "--experiment", "tiny", "--data", str(tmp_path / "other"))
    assert answer.code == 1
    assert "does not list the images that the experiment was trained on\n" in answer.err
    assert answer.err.endswith("next: pass --data FOLDER with the data that it was trained on\n")
    assert not list((copy / "exports").rglob("report.html"))
