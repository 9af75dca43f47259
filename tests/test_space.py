import json
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blackbox_fx.errors import ParameterError
from blackbox_fx.space import Choice, Continuous, Integer, Space, Toggle
from tests.cases import SPACE

finite = st.floats(-1e6, 1e6, allow_nan=False)


@st.composite
def parameters(draw):
    kind = draw(st.sampled_from(["continuous", "log", "integer", "toggle", "choice"]))
    if kind == "toggle":
        return Toggle(draw(st.booleans()))
    if kind == "choice":
        options = draw(st.lists(st.text("abc é\n=.", min_size=1, max_size=4), min_size=2, max_size=6, unique=True))
        return Choice(tuple(options), draw(st.sampled_from(options)))
    if kind == "integer":
        low = draw(st.integers(-1000, 1000))
        high = low + draw(st.integers(1, 1000))
        return Integer(low, high, draw(st.integers(low, high)))
    low = draw(st.floats(1e-3, 1e3)) if kind == "log" else draw(finite)
    high = low + draw(st.floats(0.1, 1e4)) * max(1.0, abs(low))
    step = (high - low) / draw(st.integers(1, 50)) if draw(st.booleans()) else 0.0
    default = low + draw(st.floats(0, 1)) * (high - low)
    return Continuous(low, high, min(max(default, low), high), log=kind == "log", step=step)


spaces = st.lists(parameters(), min_size=0, max_size=5).map(lambda ps: Space({f"p{k}": p for k, p in enumerate(ps)}))


@given(spaces, st.integers(0, 2**32))
def test_encode_undoes_decode(space, seed):
    rows = np.random.default_rng(seed).random((5, space.width))
    for row, snapped in zip(rows, space.snap(rows), strict=True):
        values = space.decode(row)
        assert np.allclose(space.encode(values), snapped, atol=1e-9)
        again = space.decode(space.encode(values))
        for name, value in values.items():
            assert again[name] == (pytest.approx(value, rel=1e-9, abs=1e-6) if isinstance(value, float) else value)


@given(spaces, st.integers(0, 2**32))
def test_samples_are_canonical_and_repeat(space, seed):
    rows = space.sample(20, seed)
    assert rows.shape == (20, space.width)
    assert ((rows >= 0) & (rows <= 1)).all()
    assert np.allclose(space.snap(rows), rows, atol=1e-9)
    assert np.array_equal(rows, space.sample(20, seed))


@given(spaces)
def test_json_round_trip(space):
    assert Space.from_json(space.to_json()) == space
    if space.free:
        held = space.fix({space.free[0]: space.defaults[space.free[0]]})
        assert Space.from_json(held.to_json()) == held != space


@given(spaces, st.integers(0, 2**32))
def test_unit_step_reaches_another_value(space, seed):
    """From anywhere, a move by unit_step either changes the value or hits a bound."""
    rng = np.random.default_rng(seed)
    for name, s in space.slices.items():
        p = space.parameters[name]
        if p.columns > 1 or not p.unit_step:
            continue
        for u in rng.random(20):
            up = u + p.unit_step * (1 + 1e-9)
            if up <= 1:
                assert p.decode(np.array([u])) != p.decode(np.array([up])), (name, s, u)


def test_edges():
    low, high = np.zeros(SPACE.width), np.ones(SPACE.width)
    assert SPACE.decode(low) == {"gain_db": -20, "freq_hz": 20, "drive": 1, "order": -2, "on": False, "kind": "low"}
    top = SPACE.decode(high)
    assert (top["gain_db"], top["order"], top["on"], top["kind"]) == (10, 5, True, "low")
    assert top["freq_hz"] == pytest.approx(20_000)
    assert SPACE.decode(high * 2) == top  # beyond the edge is the edge


def test_narrowing_keeps_the_grid_of_steps():
    space = Space({"p": Continuous(0, 10, 5, step=1)}).within(p=np.array([0.6, 7.4]))
    assert space.decode([0.0]) == {"p": 1.0} and space.decode([0.5]) == {"p": 4.0} and space.decode([1.0]) == {"p": 7.0}


def test_wide_logarithmic_ranges_do_not_overflow():
    assert Continuous(1e-300, 1e300, 1, log=True).decode(np.array([0.5])) == pytest.approx(1)


def test_columns_and_largest_weight():
    assert SPACE.columns[-3:] == ("kind=low", "kind=band", "kind=high")
    assert SPACE.only("kind").decode([0.3, 0.3, 0.31]) == {"kind": "high"}


def test_steps_quantise():
    p = Continuous(1, 9, 1, step=0.5)
    assert {p.decode(np.array([u])) for u in np.linspace(0, 1, 1000)} == set(np.arange(1, 9.1, 0.5))
    assert p.unit_step == 0.5 / 8


def test_samples_are_uniform():
    rows = SPACE.sample(4000, 0)
    assert abs(rows[:, 0].mean() - 0.5) < 4 * np.sqrt(1 / 12 / 4000)
    levels, counts = np.unique(rows[:, 3], return_counts=True)
    assert len(levels) == 8 and np.ptp(counts) < 0.3 * 500
    assert np.abs(rows[:, -3:].mean(axis=0) - 1 / 3).max() < 4 * np.sqrt(2 / 9 / 4000)


def test_fix_only_within():
    held = SPACE.fix(drive=2, on=False)
    assert held.free == ("gain_db", "freq_hz", "order", "kind") and held.defaults["drive"] == 2
    assert SPACE.only("order", "gain_db").free == ("order", "gain_db")
    narrow = SPACE.within(gain_db=(-6, -3), order=(0, 4))
    assert narrow.defaults["gain_db"] == -3 and narrow.decode(np.ones(8))["order"] == 4
    assert SPACE.defaults["gain_db"] == 0  # the original stays


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: SPACE.complete({"gian_db": 0}), "'gian_db' (did you mean gain_db?); known are gain_db"),
        (lambda: SPACE.complete({"gain_db": 11}), "[-20, 10] dB"),
        (lambda: SPACE.complete({"gain_db": "loud"}), "must be a number"),
        (lambda: SPACE.complete({"gain_db": float("nan")}), "outside"),
        (lambda: SPACE.complete({"gain_db": True}), "must be a number"),
        (lambda: SPACE.complete({"order": 1.5}), "whole numbers"),
        (lambda: SPACE.complete({"on": "yes"}), "true or false"),
        (lambda: SPACE.complete({"kind": "notch"}), "one of low, band, high"),
        (lambda: SPACE.fix(volume=1), "'volume'"),
        (lambda: SPACE.only("drive", "drive"), "twice"),
        (lambda: SPACE.fix(drive=2).only("drive"), "was fixed"),
        (lambda: SPACE.within(on=(0, 1)), "no range"),
        (lambda: SPACE.within(gain_db=(-6, 60)), "outside its range"),
        (lambda: SPACE.within(gain_db=-6), "(low, high)"),
        (lambda: SPACE.within(gain_db=(3, 3)), "low < high"),
        (lambda: SPACE.decode([0.5]), "shape (8,)"),
        (lambda: Continuous(1, 1, 1), "low < high"),
        (lambda: Continuous(0, 1, 0, log=True), "above 0"),
        (lambda: Continuous(0, 1, 2), "outside"),
        (lambda: Continuous(0, 1, 0, step=2), "step"),
        (lambda: Continuous(0, float("inf"), 0), "finite"),
        (lambda: Continuous("0", 1, 0), "number"),
        (lambda: Integer(0.5, 3.5, 1), "whole number"),
        (lambda: Space({"a": 3}), "must be Continuous"),
        (lambda: Choice(("a",), "a"), "two or more"),
        (lambda: Choice(("a", "a"), "a"), "different"),
        (lambda: Space.from_json("{}"), "Space.to_json"),
        (lambda: Space.from_json("nonsense"), "Space.to_json"),
        (lambda: Space.from_json(json.dumps({"parameters": {"a": {"kind": "dial"}}, "free": []})), "dial"),
    ],
)
def test_mistakes_get_one_clear_sentence(call, words):
    with pytest.raises(ParameterError) as caught:
        call()
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_what_is_no_name_and_no_number_is_one_sentence():
    space = Space({"a": Continuous(0, 1, 0), "b": Continuous(0, 1, 0)})
    with pytest.raises(ParameterError, match=r"must be a text, got \['a'\]; write them one by one"):
        space.only(["a"])  # pyright: ignore[reportArgumentType]
    for wrong in ([{"a": 1}], ["x", "y"]):
        with pytest.raises(ParameterError, match=r"must be numbers in .*; encode takes settings"):
            space.decode(wrong)


wide = st.lists(parameters(), min_size=30, max_size=40).map(lambda ps: Space({f"p{k}": p for k, p in enumerate(ps)}))


@given(wide, st.integers(0, 2**32), st.sampled_from([0.0, 1.0, -0.0, 1.5, -1.5, 0.5, np.nan, 1 - 2**-53]))
def test_many_parameters_decode_together_to_what_each_gives_alone(space, seed, special):
    rng = np.random.default_rng(seed)
    row = np.where(rng.random(space.width) < 0.2, special, rng.random(space.width))
    try:
        alone = {name: space.parameters[name].decode(row[s]) for name, s in space.slices.items()}
    except ValueError:  # NaN is no whole number
        with pytest.raises(ValueError, match="NaN"):
            space.decode(row)
        return
    together = space.decode(row)
    # texts, since they tell -0.0 from 0.0, 1 from 1.0 and True from 1, and NaN equals NaN
    assert list(map(repr, together.items())) == list(map(repr, alone.items()))


@pytest.mark.parametrize("p", [Continuous(0, 1, 0, step=0.1), Integer(0, 9, 1), Continuous(0, 1, 0)])
def test_nan_decodes_among_many_parameters_as_it_does_alone(p):
    row = np.full(40, 0.5)
    row[30] = np.nan
    many = Space({f"p{k}": p for k in range(40)})
    if isinstance(p, Continuous) and not p.step:
        assert np.isnan(many.decode(row)["p30"])
    else:
        with pytest.raises(ValueError, match="NaN"):
            many.decode(row)


@given(wide.map(lambda s: s.only(*s.free[::-2])), st.integers(0, 2**32))
def test_a_completed_row_has_what_is_held_too(space, seed):
    row = np.random.default_rng(seed).random(space.width)
    assert list(space.complete_row(row).items()) == list(space.complete(space.decode(row)).items())


def test_a_space_that_has_decoded_is_pickled_as_before():
    space = Space({f"p{k}": Continuous(0, 1, 0.5) for k in range(40)})
    before = pickle.dumps(space)
    space.decode(np.zeros(40))
    assert pickle.dumps(space) == before and pickle.loads(before).decode(np.ones(40)) == space.decode(np.ones(40))


def test_a_completed_row_with_nan_is_refused():
    space = Space({"gain": Continuous(0, 1, 0.5)})
    with pytest.raises(ParameterError, match="gain=nan"):
        space.complete_row(np.array([np.nan]))


@given(wide, st.integers(0, 2**32))
def test_rows_snap_to_what_each_parameter_snaps_to(space, seed):
    rows = np.random.default_rng(seed).uniform(-0.2, 1.2, (3, space.width))
    alone = [space.parameters[name].snap(rows[:, s]) for name, s in space.slices.items()]
    assert np.array_equal(space.snap(rows), np.concatenate(alone, axis=1))
    assert space.snap(rows[:0]).shape == (0, space.width)
