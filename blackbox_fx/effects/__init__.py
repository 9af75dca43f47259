"""Effects, each behind `Effect.render`. Nothing here imports torch, nor a host before it is used."""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import TYPE_CHECKING, Any

from blackbox_fx.effects.base import Effect
from blackbox_fx.effects.function import function
from blackbox_fx.effects.rack import Rack
from blackbox_fx.errors import EffectError, did_you_mean

if TYPE_CHECKING:
    from blackbox_fx.effects.scanning import Scanned, installed, scan

__all__ = ["HOSTS", "Effect", "Rack", "Scanned", "function", "installed", "load", "scan"]

HOSTS = {
    "pedalboard": ("blackbox_fx.effects.pedalboard", "Builtin"),
    "vst3": ("blackbox_fx.effects.vst3", "VST3"),
    "ladspa": ("blackbox_fx.effects.ladspa", "LADSPA"),
    "vst2": ("blackbox_fx.effects.dawdreamer", "VST2"),
    "lv2": ("blackbox_fx.effects.dawdreamer", "LV2"),
    "faust": ("blackbox_fx.effects.faust", "Faust"),
    "command": ("blackbox_fx.effects.command", "Command"),
}
_EXAMPLES = {
    "pedalboard": "pedalboard:Compressor",
    "vst3": "vst3:ZamCompX2",
    "ladspa": "ladspa:tap_reverb",
    "vst2": "vst2:MVerb",
    "lv2": "lv2:urn:dragonfly:plate",
    "faust": "faust:program.dsp",
    "command": "'command:sox {in} {out} reverse'",
}


def __getattr__(name: str) -> Any:
    if name in ("Scanned", "installed", "scan"):
        return getattr(import_module("blackbox_fx.effects.scanning"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def load(address: str, **options: Any) -> Effect:
    """An effect by its address.

    Args:
        address: "pedalboard:Compressor"; "vst3:/path/to/Plugin.vst3", or "vst3:Plugin" if it is installed;
            "ladspa:label" or "ladspa:/path/to/file.so:label"; "vst2:Plugin"; "lv2:urn:dragonfly:plate";
            "faust:program.dsp"; "command:sox {in} {out} reverse". `scan` and `blackbox-fx effects` list them.
        options: passed to the host::

                pedalboard  impulse_response, impulse_rate: of Convolution; a file, or (channel, time) and its rate
                vst3        parameters: a TOML file, see below
                vst2, lv2   parameters; reset: "none", "graph" or "reload"; sample_rate in Hz, at which it is opened
                ladspa      none
                faust       code: the program itself, in place of its file; reset, sample_rate
                command     space: its parameters; seconds: it may take; latency_samples: by which it delays

            parameters="my.toml" names a file that says otherwise of some parameters than the plugin does::

                [threshold_db]          # a parameter, by the name that `space` or `excluded` has for it
                min = -40               # narrows what the plugin tells, in its units; so do max, step, log
                default = -20
                [mode]
                kind = "choice"         # with a kind, what the plugin tells is replaced: min and max are what the ends
                options = ["a", "b"]    # of the control mean, options are its positions in order
                [bypass]
                exclude = true          # false brings back what was left out

    Raises:
        EffectError: an unknown kind of effect, one that cannot be loaded, or a bad file of parameters.

    >>> load("pedalboard:Gain").space.parameters["gain_db"].describe()
    '[-60, 24] dB'
    """
    kind, colon, rest = address.partition(":") if isinstance(address, str) else ("", "", "")
    if not colon or kind not in HOSTS:
        question = did_you_mean(kind, HOSTS) if colon else ""
        raise EffectError(f"Unknown effect {address!r}{question}; write kind:name with a kind of {', '.join(HOSTS)}.")
    if not rest:
        raise EffectError(f"{address!r} says no name; write {kind}:name, such as {_EXAMPLES[kind]}.")
    module, name = HOSTS[kind]
    host = getattr(import_module(module), name)
    known = list(inspect.signature(host).parameters)[1:]
    unknown = [option for option in options if option not in known]
    if unknown:
        raise EffectError(f"{kind} effects take no option {unknown[0]!r}; known are {', '.join(known) or 'none'}.")
    effect = host(rest, **options)
    if not options:
        effect.address = address
    return effect
