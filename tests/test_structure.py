"""The shape of the package: who may import whom, what it exports, and how long a function may be."""

import ast
import inspect
import operator
import re
from pathlib import Path

import pytest

import blackbox_fx

PACKAGE = Path(blackbox_fx.__file__).parent
# a folder, or a module that stands alone, imports only from itself and from names before it
ORDER = [
    "errors",
    "core",
    "space",
    "audio",
    "isolation",
    "effects",
    "runtime",
    "profiling",
    "data",
    # ---- nothing above imports torch ----
    "dsp",
    "losses",
    "estimators",
    "proxy",
    "identification",
    "testing",
    "layers",
    "sessions",
    "training",
    "learning",
    "models",
    "lab",
    "report",
    "tasks",
    "cli",
    "__main__",
]
RANK = {name: rank for rank, name in enumerate(ORDER)}
NO_TORCH = ORDER[: ORDER.index("dsp")]
LINES, BRANCHES, PRIVATE = 50, 12, 10


def sources():
    """Every module of the package by its dotted name, with its text."""
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        yield ".".join(parts).removesuffix(".__init__"), path.read_text()


MODULES = dict(sources())


def imported(source):
    """Modules that a source imports, wherever in it, as dotted names."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in MODULES else node.module


def violations(home, source):
    found = []
    for module in imported(source):
        top, _, rest = module.partition(".")
        part = rest.split(".")[0]
        if top == "blackbox_fx" and part and RANK[part] > RANK[home]:
            found.append(f"{home} imports {module}")
        if top == "torch" and home in NO_TORCH:
            found.append(f"{home} imports torch")
    return found


def test_imports_point_one_way():
    seen = set()
    for name, source in MODULES.items():
        home = name.split(".")[1] if "." in name else None
        if home:
            seen.add(home)
            assert not violations(home, source), name
    assert seen == set(RANK)


@pytest.mark.parametrize(
    ("home", "source"),
    [
        ("space", "import torch"),
        ("effects", "def f():\n    from torch import nn"),
        ("layers", "from blackbox_fx.learning.refresh import Refresh"),
        ("runtime", "import blackbox_fx.layers.black_box"),
    ],
)
def test_a_planted_violation_is_seen(home, source):
    assert violations(home, source)


def circles(arrows):
    """Modules that lead back to themselves."""

    def reached(start):
        found, todo = set(), [start]
        while todo:
            for name in arrows.get(todo.pop(), ()):
                if name not in found:
                    found.add(name)
                    todo.append(name)
        return found

    return sorted(name for name in arrows if name in reached(name))


def test_no_imports_go_in_a_circle():
    arrows = {name: {m for m in imported(source) if m in MODULES} - {name} for name, source in MODULES.items()}
    assert not circles(arrows)
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c"]


def functions():
    for name, source in MODULES.items():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                yield f"{name}:{node.name}", node


def length(node):
    """Lines of a function without its docstring."""
    first = node.body[0]
    documented = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    return node.end_lineno - node.lineno + 1 - documented * (first.end_lineno - first.lineno + 1)


def branches(node):
    kinds = (ast.If, ast.For, ast.While, ast.IfExp, ast.BoolOp, ast.ExceptHandler, ast.comprehension)
    return sum(isinstance(n, kinds) for n in ast.walk(node))


def test_functions_are_short_and_have_few_branches():
    measured = {name: (length(node), branches(node)) for name, node in functions()}
    assert not {name: found for name, found in measured.items() if found[0] > LINES or found[1] > BRANCHES}


def private_uses(source):
    """Names with one underscore that a source takes from another module, or from an object that is not its own."""
    tree = ast.parse(source)
    defined = {n.name for n in ast.walk(tree) if isinstance(n, (ast.ClassDef, ast.FunctionDef))}
    defined |= {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Store)}
    defined |= {n.target.id for n in ast.walk(tree) if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("blackbox_fx"):
            yield from (a.name for a in node.names if re.match(r"_[a-z]", a.name))
        if isinstance(node, ast.Attribute) and re.match(r"_[a-z]\w*$", node.attr) and node.attr not in defined:
            yield node.attr


# of hosts and of the standard library, which have no public name for it
FOREIGN = {"_exit", "_parameters", "_reload_type", "_pedalboard", "_replace", "_load_from_state_dict", "_asdict"}


def test_no_private_name_is_used_across_modules():
    inherited = {"_save_pretrained", "_from_pretrained", "_members"}
    found = {name: set(private_uses(source)) - FOREIGN - inherited for name, source in MODULES.items()}
    assert not {name: names for name, names in found.items() if names}
    assert list(private_uses("from blackbox_fx.a import _b\nc._d()")) == ["_b", "_d"]


def test_tests_look_inside_rarely():
    uses = []
    for path in sorted(Path(__file__).parent.glob("*.py")):
        uses += [f"{path.name}: {name}" for name in private_uses(path.read_text()) if name not in FOREIGN]
    assert len(uses) < PRIVATE, uses


def test_public_names_load_and_are_documented():
    for name in blackbox_fx.__all__:
        assert inspect.getdoc(getattr(blackbox_fx, name)), name
    assert {"BlackBox", "Job", "Pool", "Probing", "Twin", "effects", "load", "testing"} <= set(blackbox_fx.__all__)
    assert not [name for name in blackbox_fx.__all__ if name.startswith("_")]
    with pytest.raises(AttributeError):
        operator.attrgetter("nothing")(blackbox_fx)
