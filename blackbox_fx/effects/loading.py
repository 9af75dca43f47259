"""Effects by their addresses."""

from __future__ import annotations

import inspect
import re
from pathlib import PurePath
from typing import Any

from blackbox_fx.effects import hosts
from blackbox_fx.effects.base import Effect
from blackbox_fx.errors import EffectError, did_you_mean


def load(address: str | PurePath, **options: Any) -> Effect:
    """An effect by its address.

    Args:
        address: "pedalboard:Compressor"; "vst3:Plugin" if it is installed, or the path of its file;
            "ladspa:label" or "ladspa:/path/file.so:label"; "vst2:Plugin"; "lv2:urn:dragonfly:plate";
            "faust:program.dsp"; "command:sox {in} {out} reverse". `scan` and `blackbox-fx effects` list them.
        options: passed to the host::

                pedalboard  impulse_response, impulse_rate: of Convolution; a file, or (channel, time) and its rate
                vst3        parameters: a TOML file, see below; tempo; latency_samples
                vst2, lv2   parameters; reset: "none", "graph" or "reload"; sample_rate in Hz, at which it is opened;
                            tempo in beats per minute; latency_samples
                ladspa      latency_samples
                faust       code: the program itself, in place of its file; reset, sample_rate
                command     space: its parameters; seconds: it may take; latency_samples

            latency_samples=512 is what is compensated, at all settings and sample rates, in place of what the plugin
            reports, which `check` may have found to be wrong.

            tempo=97 is what the host tells the plugin; the clip starts at its first beat. Plugins of all three formats
            get it. Without it, VST2 and LV2 plugins are told 120, and VST3 plugins none. A VST3 plugin that is told a
            tempo is hosted by dawdreamer, which may name and scale its parameters otherwise.

            parameters="my.toml" names a file that overrides what the plugin reports about some parameters::

                [threshold_db]          # a parameter, by the name that `space` or `excluded` has for it
                min = -40               # narrows what the plugin reports, in its units; so do max, step, log
                default = -20
                [mode]
                kind = "choice"       # with a kind, what the plugin reports is replaced: min and max are what the ends
                options = ["a", "b"]    # of the control mean, options are its positions in order
                [bypass]
                exclude = true          # false brings back what was left out

    Raises:
        EffectError: an unknown host, an effect that cannot be loaded, or a bad file of parameters.

    >>> load("pedalboard:Gain").space.parameters["gain_db"].describe()
    '[-60, 24] dB'
    """
    name, rest = _parse(address)
    host = hosts.find_host(name)
    if not rest:
        raise EffectError(f"{address!r} names no effect; write {name}:name, such as {host.example}.")
    known = list(inspect.signature(host.effect).parameters)[1:]
    unknown = [option for option in options if option not in known]
    if unknown:
        raise EffectError(f"{name} effects take no option {unknown[0]!r}; known are {', '.join(known) or 'none'}.")
    effect = host.effect(rest, **options)
    if not options:
        effect.address = f"{name}:{rest}"
    return effect


def _installed_as(name: str) -> str:
    """A question about installed effects of a name without a host, or ""."""
    from blackbox_fx.effects import scanning

    listed = (entry for entries in scanning.installed(match=name).values() for entry in entries) if name else ()
    known = [entry for entry in listed if re.split("[:/]", entry)[-1].lower() == name.lower()]
    return f" (did you mean {' or '.join(known)}?)" if known else ""


def _parse(address: str | PurePath) -> tuple[str, str]:
    """The host and what stands behind its colon; a path alone belongs to the host of its ending."""
    address = str(address) if isinstance(address, PurePath) else address
    if not isinstance(address, str):
        raise EffectError(f"An address must be a text such as 'pedalboard:Compressor', got {address!r}.")
    name, colon, rest = address.partition(":")
    if colon and name in hosts.NAMES:
        return name, rest
    address = address.rstrip("/")  # plugins that are folders, as shells complete them
    fitting = [host for host in hosts.NAMES if address.endswith(hosts.find_host(host).endings)]
    if len(fitting) == 1:
        return fitting[0], address
    if fitting:
        ways = " or ".join(f"{host}:{address}" for host in fitting)
        raise EffectError(f"{address!r} may belong to several hosts; write {ways}.")
    question = did_you_mean(name, hosts.NAMES) if colon else _installed_as(address)
    raise EffectError(f"Unknown effect {address!r}{question}; write host:name with a host of {', '.join(hosts.NAMES)}.")
