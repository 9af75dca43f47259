"""What the README says is so."""

import re

import pytest
import torch
from typer.testing import CliRunner

from blackbox_fx.cli.__main__ import app


@pytest.fixture
def readme(root):
    return (root / "README.md").read_text()


def test_the_examples_run(readme):
    examples = re.findall(r"```python\n(.*?)```", readme, re.S)
    assert examples
    for example in examples:
        torch.manual_seed(0)
        names = {}
        exec(example, names)
        learnt = [p.grad for p in names["network"].parameters()] if "network" in names else [names["params"].grad]
        assert all((grad != 0).any() for grad in learnt)


def test_it_is_short_and_its_links_lead_somewhere(readme, root):
    assert len(readme.splitlines()) <= 160
    links = [link for link in re.findall(r"\]\(([^)]+)\)", readme) if not link.startswith("http")]
    assert len(links) > 10 and all((root / link).exists() for link in links), links


def test_every_command_exists(readme):
    shown = re.findall(r"`blackbox-fx ([a-z ]+)", readme)
    assert shown
    for line in shown:
        words = line.split()
        words = words[:2] if words[0] in ("train", "bench", "proxy") else words[:1]
        assert CliRunner().invoke(app, [*words, "--help"]).exit_code == 0, line


def test_the_commands_of_make_are_targets(root):
    text = (root / "Makefile").read_text()
    for target in ("demo:", "test:", "check:", "docs:"):
        assert f"\n{target}" in text
