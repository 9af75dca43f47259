"""The shape of the package: who may import whom, and what it exports."""

import ast
import operator
from pathlib import Path

import pytest

import blackbox_fx

PACKAGE = Path(blackbox_fx.__file__).parent
# a module imports only from its own line or from earlier ones; modules of one line form one folder or stand alone
ORDER = [
    ["errors"],
    ["parameters"],
    ["space"],
    ["audio"],
    ["places"],
    ["cache"],
    ["sandbox"],
    ["aside"],
    ["effects"],
    ["runtime"],
    ["profiling"],
    # ---- nothing above imports torch ----
    ["dsp"],
    ["losses"],
    ["estimators"],
    ["layer"],
    ["expectation"],
    ["graph"],
    ["data"],
    ["checkpoint"],
    ["recipe"],
    ["proxy"],
    ["models"],
    ["train"],
    ["lab"],
    ["report"],
    ["cli"],
]
RANK = {name: rank for rank, names in enumerate(ORDER) for name in names}
NO_TORCH = {name for names in ORDER[: ORDER.index(["dsp"])] for name in names} | {"data"}


def imports(source):
    """Modules that a source imports, wherever in it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def violations(home, source):
    found = []
    for module in imports(source):
        top, _, rest = module.partition(".")
        part = rest.split(".")[0]
        if top == "blackbox_fx" and part and RANK[part] > RANK[home]:
            found.append(f"{home} imports {module}")
        if top == "torch" and home in NO_TORCH:
            found.append(f"{home} imports torch")
    return found


def modules():
    for path in sorted(PACKAGE.rglob("*.py")):
        home = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if home != "__init__":
            yield home, path


def test_imports_point_one_way():
    seen = set()
    for home, path in modules():
        seen.add(home)
        assert not violations(home, path.read_text()), path
    assert seen == set(RANK)


@pytest.mark.parametrize(
    ("home", "source"),
    [
        ("space", "import torch"),
        ("effects", "def f():\n    from torch import nn"),
        ("layer", "from blackbox_fx.layers.console import Console"),
        ("runtime", "import blackbox_fx.layers.black_box"),
    ],
)
def test_a_planted_violation_is_seen(home, source):
    assert violations(home, source)


def test_files_stay_short():
    long = {str(path): n for _, path in modules() if (n := len(path.read_text().splitlines())) > 320}
    assert not long


def test_exported_names():
    assert blackbox_fx.__all__ == [
        "AudioError",
        "AudioRule",
        "Auto",
        "Autodiff",
        "BlackBox",
        "BlackBoxError",
        "Chain",
        "Choice",
        "Console",
        "Continuous",
        "ControlVariate",
        "DataError",
        "Dynamics",
        "Effect",
        "EffectError",
        "Estimator",
        "FiniteDifference",
        "GuidedES",
        "Hybrid",
        "Identity",
        "Inline",
        "Integer",
        "LocalSpectrum",
        "MissingHost",
        "Mix",
        "ModulatedDelay",
        "MovingFilter",
        "MultiplexedSPSA",
        "NotFinite",
        "ParameterError",
        "Pointwise",
        "Processes",
        "Profile",
        "Proxy",
        "ProxyRecipe",
        "Rack",
        "Refresh",
        "RenderTimeout",
        "SPSA",
        "ScoreFunction",
        "Space",
        "Surrogate",
        "Threads",
        "TimeReversal",
        "Toggle",
        "TwoStage",
        "Verified",
        "WorkerDied",
        "check_effect",
        "expected_loss",
        "function",
        "load",
        "load_proxy",
        "profile",
        "train_proxy",
    ]
    for name in blackbox_fx.__all__:
        assert getattr(blackbox_fx, name).__doc__
    with pytest.raises(AttributeError):
        operator.attrgetter("nothing")(blackbox_fx)


def test_type_checkers_see_what_is_exported():
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    block = next(n for n in tree.body if isinstance(n, ast.If))
    names = [alias.asname for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names]
    assert sorted(names) == blackbox_fx.__all__
