"""What Windows and macOS lack is not needed to import, to render here, to train and for the command line."""

import os
import subprocess
import sys

HIDE = """
import os, select, signal, sys
for name in ("resource", "fcntl"):
    sys.modules[name] = None
for module, names in ((select, ["poll"]), (os, ["getuid", "waitid", "killpg", "getpgrp", "sched_getaffinity"]),
                      (signal, ["SIGALRM", "SIGKILL"])):
    for name in names:
        if hasattr(module, name):
            delattr(module, name)
"""

LAYERS = """
import torch
import blackbox_fx as bfx
for name in bfx.__all__:
    getattr(bfx, name)
for pool in (bfx.Inline(), bfx.Threads(2)):
    layer = bfx.BlackBox(bfx.load("pedalboard:Compressor"), bfx.SPSA(), audio_rule=bfx.TimeReversal(), pool=pool)
    params = torch.full((2, layer.width), 0.5, requires_grad=True)
    layer(0.3 * torch.randn(2, 1, 4000), params).square().sum().backward()
    assert params.grad.any()
try:
    bfx.Processes(2)
except bfx.ParameterError as error:
    assert "Linux or macOS" in str(error)
else:
    raise SystemExit("worker processes were not refused")
proxy = bfx.load_proxy("pedalboard-compressor")
assert bfx.profile(bfx.load("pedalboard:Gain"), budget=0.5).realtime > 0
"""

TRAINING = """
from pathlib import Path
import sys, numpy as np, torch
import blackbox_fx as bfx
from blackbox_fx.cli.__main__ import app
from typer.testing import CliRunner
folder = Path(sys.argv[1])
recipe = bfx.ProxyRecipe("pedalboard:Gain", steps=3, seconds=0.1, batch=2, minutes=1)
trained = bfx.train_proxy(recipe, folder / "proxy")
assert (folder / "proxy" / "card.json").exists() and trained.log.steps == 3
for words in (["--help"], ["proxy", "list"], ["inspect", "pedalboard:Gain", "--quick"]):
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, (words, done.output)
for song in range(3):
    (folder / f"songs/{song}").mkdir(parents=True)
    for track in range(2):
        noise = 0.1 * np.random.default_rng(track).standard_normal((2, 22050)).astype(np.float32)
        bfx.audio.write(folder / f"songs/{song}/{track}.flac", noise, 44100)
(folder / "mix.toml").write_text("batch = 2\\nseconds = 0.4\\nexcerpts = 4\\nunseen = 2\\n")
given = {"--songs": folder / "songs", "--out": folder / "run", "--recipe": folder / "mix.toml", "--steps": 1}
done = CliRunner().invoke(app, ["train", "mix", *(str(word) for pair in given.items() for word in pair)])
assert done.exit_code == 0, (done.output, done.exception)
"""


def run(code, *arguments):
    command = [sys.executable, "-W", "ignore", "-c", HIDE + code, *map(str, arguments)]
    own = os.environ | {"USERNAME": "someone"}  # which Windows has, and torch asks for
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=own)
    assert done.returncode == 0, done.stderr[-3000:]


def test_layers_proxies_and_profiles_work_without_posix():
    run(LAYERS)


def test_training_and_the_command_line_work_without_posix(tmp_path):
    run(TRAINING, tmp_path)
