"""What the README says is so."""

import re
import shutil

import pytest
import torch
from typer.testing import CliRunner

from blackbox_fx.cli.__main__ import app


def test_the_example_runs(root):
    example, tour, chain, proxy = re.findall(r"```python\n(.*?)```", (root / "README.md").read_text(), re.S)
    torch.manual_seed(0)
    names = {}
    exec(example, names)
    assert names["wet"].shape == (8, 2, 44100)
    assert all((p.grad != 0).any() for p in names["network"].parameters())
    assert isinstance(names["params"], torch.Tensor)
    names = {}
    exec(tour, names)
    assert names["comp"].space.columns == ("threshold_db", "ratio") and names["console"].track_width == 14
    names = {}
    exec(proxy, names)
    assert (names["params"].grad != 0).any() and names["proxy"].columns == names["effect"].space.columns
    names = {}
    exec(chain, names)
    assert (names["params"].grad != 0).sum() >= 12 and (names["audio"].grad != 0).any()


def test_every_row_names_a_test(root):
    rows = re.findall(r"\| `(test_\w+\.py)` \|", (root / "README.md").read_text())
    assert len(rows) >= 23 and all((root / "tests" / name).exists() for name in rows)


def test_every_command_exists(root):
    shown = re.findall(r"^blackbox-fx (.*?)(?:\s+#|$)", (root / "README.md").read_text(), re.M)
    assert len(shown) == 26
    for line in shown:
        command = [word for word in line.split() if word.isalpha() and word.islower()][:2]
        words = command if command[0] in ("train", "bench", "proxy") else command[:1]
        assert CliRunner().invoke(app, [*words, "--help"]).exit_code == 0


@pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")
def test_the_two_commands_are_targets(root):
    text = (root / "Makefile").read_text()
    for target in ("demo:", "test:", "check:"):
        assert f"\n{target}" in text
