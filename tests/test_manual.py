"""What the manual shows is so: its code runs, its commands exist, and every public name is described."""

import importlib.util
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch
from typer.main import get_command

import blackbox_fx
from blackbox_fx.cli.__main__ import app
from blackbox_fx.estimators.audio_rules.portfolio import portfolio

ROOT = Path(__file__).parent.parent
MANUAL = ROOT / "notebooks"
GUIDES = sorted(MANUAL.glob("*.md"))
FENCE = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.M | re.S)


def blocks(path, language):
    """The fenced blocks of a page in a language, with what stands behind it, and the line they begin at."""
    text = path.read_text()
    for match in FENCE.finditer(text):
        if match[1] == language:
            yield match[3], match[2].strip(), text.count("\n", 0, match.start()) + 1


def commands():
    for path in GUIDES:
        for text, _, _ in blocks(path, "sh"):
            for line in text.splitlines():
                words = line.partition(" #")[0].split()
                if words[:1] == ["blackbox-fx"]:
                    yield pytest.param(words[1:], id=f"{path.stem}: {' '.join(words[1:4])}")


def leaf(words):
    """The command that words name, and the words that are left for it."""
    command = get_command(app)
    while hasattr(command, "commands"):
        command, words = command.commands[words[0]], words[1:]
    return command, words


@pytest.mark.parametrize("path", GUIDES, ids=lambda path: path.stem)
def test_the_code_of_a_guide_runs(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # a module of its own, so that classes pickle; worker processes get them by value, as those of a notebook
    module = types.ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", module)
    torch.manual_seed(0)
    for code, words, line in blocks(path, "python"):
        if words != "no-run" and "title=" not in words:
            exec(compile("\n" * line + code, str(path), "exec"), vars(module))


def test_few_blocks_are_left_out():
    left_out = [path.stem for path in GUIDES for _, words, _ in blocks(path, "python") if words == "no-run"]
    assert len(left_out) <= 3, left_out


@pytest.mark.parametrize("words", list(commands()))
def test_a_command_takes_what_is_shown(words):
    command, rest = leaf(words)
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in rest if word.startswith("--")} <= known
    with command.make_context(command.name, list(rest), resilient_parsing=True) as context:
        arguments = [parameter.name for parameter in command.params if parameter.required]
        missing = [name for name in arguments if context.params.get(name) is None]
        assert not missing and not context.args


def test_every_command_is_listed():
    def leaves(command, words):
        if hasattr(command, "commands"):
            for name, sub in command.commands.items():
                yield from leaves(sub, [*words, name])
        else:
            yield " ".join(words)

    text = (MANUAL / "commands.md").read_text()
    missing = [
        line for line in leaves(get_command(app), ["blackbox-fx"]) if not re.search(rf"^{line}( |$)", text, re.M)
    ]
    assert not missing


def test_what_is_tested_names_every_test():
    named = set(re.findall(r"`(test_\w+\.py)`", (MANUAL / "what-is-tested.md").read_text()))
    assert named == {path.name for path in Path(__file__).parent.glob("test_*.py")} - {"test_readme.py"}


def test_every_public_name_is_described():
    pages = "\n".join(path.read_text() for path in (MANUAL / "reference").glob("*.md"))
    described = set(re.findall(r"^::: blackbox_fx\.(?:\w+\.)*(\w+)$", pages, re.M))
    names = {name for name in blackbox_fx.__all__ if not isinstance(getattr(blackbox_fx, name), types.ModuleType)}
    assert not names - described


def test_the_table_of_audio_rules_has_all_that_are_tried():
    text = (MANUAL / "choose-a-gradient.md").read_text()
    rows = re.findall(r"^\| `(\w+)(?:\(proxy\))?` \|", text.partition("## The gradient of audio")[2], re.M)
    tried = {type(rule).__name__ for rule in portfolio()}
    assert set(rows) == tried | {"Surrogate"} and all(hasattr(blackbox_fx, name) for name in rows)
    assert len(tried) == 9 and "nine models" in text and "nine rules" in (ROOT / "README.md").read_text()


@pytest.mark.skipif(not importlib.util.find_spec("mkdocs"), reason="the manual needs pip install '.[docs]'")
def test_the_manual_is_built_without_a_warning_and_fetches_nothing(tmp_path):
    command = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "--config-file",
        str(ROOT / ".mkdocs.yml"),
    ]
    done = subprocess.run([*command, "--site-dir", str(tmp_path)], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    pages = {path.relative_to(tmp_path).as_posix(): path.read_text() for path in tmp_path.rglob("*.html")}
    wanted = {"index.html", "extend.html", "4-any-plugin.html", "6-mix-on-a-console.html", "reference/layers.html"}
    assert wanted <= pages.keys()
    for name, page in pages.items():
        fetched = re.findall(
            r"<(?:script|img|iframe|audio|source)[^>]*src=[\"']?(?:https?:)?//[^>]*|@import[^;]*", page
        )
        fetched += re.findall(r"<link[^>]*rel=[\"']?stylesheet[^>]*href=[\"']?(?:https?:)?//[^>]*", page)
        assert not fetched, (name, fetched)
    assert "data:image" not in pages["index.html"] and "images/1-wrap-a-plugin-0.png" in pages["1-wrap-a-plugin.html"]
    assert "images/6-mix-on-a-console-0.svg" in pages["6-mix-on-a-console.html"]  # of the console
