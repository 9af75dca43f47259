"""Plugins that behave oddly in one way each, in every host: what becomes of each kind."""

import pytest

from blackbox_fx.effects import load
from blackbox_fx.effects.texts import python_names
from tests.odd_plugins import build


@pytest.mark.parametrize(
    ("labels", "units", "last", "names"),
    [
        (["Gain", "Gain", "gain "], ["dB", "dB", ""], (), ["gain_db", "gain_db_2", "gain"]),
        (["Gain", "Mix", "Gain"], ["", "", ""], (0,), ["gain_2", "mix", "gain"]),  # excluded ones are named last
        (["", "--", "\ufffd"], ["dB", "", ":x"], (), ["parameter_0_db", "parameter_1", "parameter_2"]),
        (["音量", "\uff2dix", "Fréquence"], ["dB", "", "Hz"], (), ["音量_db", "mix", "fréquence_hz"]),
        (["Громкость", "हिन्दी", "Attack"], ["", "", "\u00b5s"], (), ["громкость", "हिन्दी", "attack_μs"]),
        (["Low", "Low", "Low 2"], ["", "", ""], (), ["low", "low_2", "low_2_2"]),
        (["20801Hz", "Rms_/_Peak"], ["", "%"], (), ["20801hz", "rms_peak"]),
        ([], [], (), []),
    ],
)
def test_parameters_get_names_that_differ_and_keep_their_letters(labels, units, last, names):
    assert python_names(labels, units, last) == names


# what a plugin calls its parameters, where the format lets it
@pytest.mark.parametrize(
    ("kind", "host", "names"),
    [
        ("same-names", "vst3", ["gain_db", "gain_db_2"]),
        ("same-names", "ladspa", ["gain", "gain_2"]),
        ("foreign-names", "vst3", ["parameter_1_db", "parameter_2"]),  # DPF writes ASCII only into a VST3
        ("foreign-names", "ladspa", ["音量", "混響"]),
    ],
)
def test_no_parameter_of_an_odd_plugin_is_lost(kind, host, names):
    assert list(load(build(kind, host)).space.parameters) == names
