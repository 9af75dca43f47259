import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blackbox_fx.errors import BlackBoxError, ParameterError
from blackbox_fx.proxy.recipe import ProxyRecipe

NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
NUMBERS = st.one_of(st.integers(-(2**53), 2**53), st.floats(allow_nan=False, allow_infinity=False))
PLAIN = st.one_of(NUMBERS, st.booleans(), NAMES)


@given(
    effect=st.one_of(NAMES, st.lists(NAMES, max_size=3)),
    fix=st.dictionaries(NAMES, PLAIN, max_size=3),
    only=st.lists(NAMES, max_size=3),
    within=st.dictionaries(NAMES, st.lists(NUMBERS, min_size=2, max_size=2), max_size=2),
    net=st.dictionaries(NAMES, PLAIN, max_size=2),
    minutes=st.floats(0.01, 1e9),
    seed=st.integers(0, 2**52),
)
def test_reads_back_what_it_wrote(tmp_path_factory, **values):
    recipe = ProxyRecipe.make(values)
    path = tmp_path_factory.mktemp("recipe") / "recipe.toml"
    path.write_bytes(recipe.to_toml().encode())
    again = ProxyRecipe.read(path)
    for name, value in vars(recipe).items():
        other = getattr(again, name)
        assert other == ({k: list(v) for k, v in value.items()} if name == "within" else value)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "needs an effect"),
        ({"effect": "a", "sample_rat": 1}, "no setting 'sample_rat'"),
        ({"effect": 5}, "effect must be an address"),
        ({"effect": "a", "batch": 4097}, "batch must be in [1, 4096], got 4097"),
        ({"effect": "a", "batch": 1, "slopes": 0.1}, "batch must be 2 or more with slopes"),
        ({"effect": "a", "sample_rate": 1}, "sample_rate must be in [1000, 768000], got 1"),
        ({"effect": "a", "seconds": 1e9}, "seconds must be in [0.01, 3600]"),
        ({"effect": "a", "only": "gain_db"}, "only must be a list of names"),
        ({"effect": "a", "batch": 0}, "batch must be a whole number, 1 or more, got 0"),
        ({"effect": "a", "batch": 1.5}, "batch must be a whole number"),
        ({"effect": "a", "seed": -1}, "seed must be a whole number, 0 or more"),
        ({"effect": "a", "seed": True}, "seed must be"),
        ({"effect": "a", "minutes": math.inf}, "minutes must be a number above 0, got inf"),
        ({"effect": "a", "learning_rate": 0}, "learning_rate must be a number above 0"),
        ({"effect": "a", "slopes": -1}, "slopes must be a number, 0 or more, got -1"),
        ({"effect": "a", "fix": {"x": None}}, "'x' of fix must be a number"),
        ({"effect": "a", "fix": ["x"]}, "fix must be a table"),
        ({"effect": "a", "within": {"x": 3}}, "'x' of within must be two finite numbers"),
        ({"effect": "a", "within": {"x": [1, math.nan]}}, "'x' of within must be two finite numbers"),
    ],
)
def test_mistakes_are_one_sentence(values, words):
    with pytest.raises(ParameterError, match=r"^[^\n]*$") as error:
        ProxyRecipe.make(values)
    assert words in str(error.value)


@pytest.mark.parametrize("text", ["effect = ", "a" * 10, "effect = " + "[" * 100_000, "effect = '\x00'"])
def test_a_bad_file_is_one_error(tmp_path, text):
    (tmp_path / "recipe.toml").write_text(text)
    with pytest.raises(ParameterError, match="Cannot read the recipe"):
        ProxyRecipe.read(tmp_path / "recipe.toml")
    with pytest.raises(ParameterError, match="Cannot read the recipe"):
        ProxyRecipe.read(tmp_path)


def test_whole_numbers_may_be_written_as_others():
    assert ProxyRecipe("a", batch=8.0).batch == 8 and isinstance(ProxyRecipe("a", batch=8.0).batch, int)


def test_loads_the_effect_with_what_is_left_free():
    recipe = ProxyRecipe(
        "pedalboard:Compressor", fix={"attack_ms": 5}, only=("ratio", "threshold_db"), within={"ratio": (1, 4)}
    )
    effect = recipe.load_effect()
    assert effect.space.columns == ("ratio", "threshold_db")
    assert effect.space.parameters["ratio"].high == 4 and effect.defaults["attack_ms"] == 5
    series = ProxyRecipe(("pedalboard:HighpassFilter", "pedalboard:Gain")).load_effect()
    assert len(series.space.columns) == 2
    with pytest.raises(BlackBoxError, match="Unknown parameter"):
        ProxyRecipe("pedalboard:Gain", only=("gian_db",)).load_effect()
