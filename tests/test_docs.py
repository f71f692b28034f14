"""What the documents say, held against what is there."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from ffdi import __version__

PROJECT = Path(__file__).resolve().parent.parent
README = (PROJECT / "README.md").read_text()
DOCUMENTS = [*PROJECT.glob("*.md"), *(PROJECT / "docs").glob("*.md")]


def command(name: str) -> str:
    """A command that the README marks."""
    found = re.search(rf"<!-- command: {name} -->\n```\n(.+)\n```", README)
    assert found, name
    return found[1]


def test_the_first_command_runs_the_whole_way_on_the_demonstration() -> None:
    assert command("quickstart").endswith("invoke train-folds ensemble-submit export-onnx predict-onnx")


@pytest.mark.parametrize(("page", "most"), [("README.md", 150), ("README.zh-CN.md", 300)])
def test_few_words_stand_before_the_first_command_on_own_data(page: str, most: int) -> None:
    """Words of English, or characters of Chinese, from the title on; without code, comments and addresses."""
    before, found, _ = (PROJECT / page).read_text().partition("invoke train-folds     -e resnet18 --as mine")
    assert found
    prose = re.sub(r"^```\w*\n.*?(^```|\Z)|<!--.*?-->|\]\([^)]*\)", " ", before, flags=re.MULTILINE | re.DOTALL)
    assert 50 < len(re.findall(r"[\u4e00-\u9fff]|[\w./'`%]*\w[\w./'`%]*", prose)) <= most


def test_ci_takes_its_command_from_the_readme() -> None:
    take = "grep -A2 '^<!-- command: tests -->$' README.md | tail -n 1"
    assert f"command=$({take})" in (PROJECT / ".ci" / "run").read_text()
    taken = subprocess.run(["bash", "-c", take], cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    assert taken == command("tests") + "\n"
    assert command("tests").endswith("pytest -n 2")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_somewhere(document: Path) -> None:
    for target, section in re.findall(r"\]\(([^)#]*)(?:#([^)]+))?\)", document.read_text()):
        found = document.parent / target if target else document
        if not target.startswith("https://"):
            assert found.exists(), target
        if section and not target.startswith("https://"):
            assert section in list_sections(found.read_text()), f"{target}#{section}"


def list_sections(text: str) -> set[str]:
    """The names that GitHub gives to the headings of a document, and the anchors that it declares itself."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    declared = set(re.findall(r'^<a id="([^"]+)"></a>$', text, re.MULTILINE))
    return declared | {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_command_and_flag_in_the_readme_exists() -> None:
    commands = set(re.findall(r"invoke ([a-z]+(?:-[a-z]+)*)", README))
    commands |= set(re.findall(r"^\| `([a-z-]+)` \|", README, flags=re.MULTILINE))
    listed = subprocess.run(
        [sys.executable, "-m", "invoke", "--list"], cwd=PROJECT, capture_output=True, text=True, check=True
    ).stdout
    assert commands == set(re.findall(r"^  ([a-z-]+)  ", listed, flags=re.MULTILINE))
    help_texts = [
        subprocess.run(
            [sys.executable, "-m", "invoke", "--help", command], cwd=PROJECT, capture_output=True, text=True, check=True
        ).stdout
        for command in sorted(commands)
    ]
    flags = set(re.findall(r"(?<![\w-])--[a-z]+(?:-[a-z]+)*", README)) - {"--list", "--help"}
    assert {flag for flag in flags if not any(f"{flag}" in text for text in help_texts)} == set()


def test_the_map_of_the_code_names_every_module_and_no_other() -> None:
    rows = re.findall(
        r"^\| `(\S+)/` \|.*\| (`.+`) \|$", (PROJECT / "docs" / "architecture.md").read_text(), re.MULTILINE
    )
    named = {f"{folder}/{module}.py" for folder, modules in rows for module in re.findall(r"`(\w+)`", modules)}
    package = PROJECT / "ffdi"
    files = {path.relative_to(package).as_posix() for path in package.rglob("*.py") if path.name != "__init__.py"}
    assert named == files


def test_who_cites_it_cites_this_version() -> None:
    assert f"\nversion: {__version__}\n" in (PROJECT / "CITATION.cff").read_text()


def test_the_reference_of_commands_is_up_to_date() -> None:
    written = (PROJECT / "docs" / "commands.md").read_text()
    code = f"import runpy; print(runpy.run_path({str(PROJECT / 'docs' / 'commands.py')!r})['text'](), end='')"
    now = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert now == written, "run: python docs/commands.py"


def test_the_image_of_an_export_has_what_its_script_needs(trained: Path, competition: Path, tmp_path: Path) -> None:
    """Without Docker: what it copies is there, its pins are ffdi's, and its command scores an image."""
    lines = (PROJECT / "Dockerfile").read_text().splitlines()
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    listed = [*project["dependencies"], *project["optional-dependencies"]["cpu"]]
    pins = re.findall(r'"([^"]+)"', next(line for line in lines if line.startswith("RUN pip install")))
    assert [re.split("[=<>]", pin)[0] for pin in pins] == ["numpy", "opencv-python-headless", "onnxruntime"]
    assert set(pins) <= set(listed)
    copied = next(line for line in lines if line.startswith("COPY"))
    assert copied == "COPY ${EXPORT}/model.onnx ${EXPORT}/predict.py /faces/"
    kept = (PROJECT / "Dockerfile.dockerignore").read_text().splitlines()
    assert kept == ["*", "!exports/*/model.onnx", "!exports/*/predict.py"]
    for name in ("model.onnx", "predict.py"):
        shutil.copy(trained / "exports" / "tiny" / name, tmp_path / name)
    assert lines[-1] == 'ENTRYPOINT ["python", "/faces/predict.py"]'
    image = next((competition / "testset").iterdir())
    command = [sys.executable, str(tmp_path / "predict.py"), str(image)]
    scored = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    assert re.fullmatch(rf"{re.escape(str(image))},0\.\d+\n", scored)


def test_the_loss_that_the_docs_write_is_one() -> None:
    import torch

    from ffdi.config.schema import TrainConfig
    from ffdi.training import optim

    (code,) = re.findall(r"```python\n(.+?)```", (PROJECT / "docs" / "extending.md").read_text(), flags=re.DOTALL)
    config = TrainConfig(loss="poly1")
    try:
        exec(code, vars(optim))
        right, wrong = (optim.create_loss(config, 0.5)(torch.full((4,), z), torch.ones(4)).item() for z in (3.0, -3.0))
    finally:
        optim.LOSSES.pop("poly1", None)
    assert right < 0.1 < 3.9 < wrong


@pytest.mark.parametrize(
    "page", ["README.md", *(f"docs/{name}.md" for name in ("tutorial", "data", "recipes", "serving", "kaggle"))]
)
def test_the_chinese_page_has_the_same_commands_and_figures(page: str) -> None:
    ours, theirs = ((PROJECT / name).read_text() for name in (page, page.replace(".md", ".zh-CN.md")))
    blocks = [re.findall(r"^```\w*\n.*?^```", text, flags=re.MULTILINE | re.DOTALL) for text in (ours, theirs)]
    assert blocks[0] == [block for block in blocks[1] if block in blocks[0]]
    numbers = [
        sorted(re.findall(r"\d+\.\d+", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))) for text in (ours, theirs)
    ]
    assert numbers[0] == numbers[1]
    assert theirs.count("\n## ") == ours.count("\n## ")
