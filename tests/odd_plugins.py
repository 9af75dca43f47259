"""Small plugins that each behave oddly in one way, compiled from `tests/odd`, all kinds at once for each host.

Tests that use one have "odd_plugin" in their names, so that they are skipped where nothing can be compiled.
"""

import atexit
import functools
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SOURCES = Path(__file__).parent / "odd"
DPF = Path("/usr/share/dpf/distrho")
# what stands in a compiled plugin where its name and its kind are written
NAMED, CHOSEN = b"OddOddOddOddOddOddOddOdd", b"odd kind 03"
# the number of each kind in odd.cpp
KINDS = {
    "latency-by-setting": 1,
    "same-names": 2,
    "plain": 3,
    "foreign-names": 4,
    "channels": 5,
    "tempo": 7,
    "mode": 8,
    "bypass": 9,
    "warm-up": 11,
    "late-latency": 15,
    "trigger": 16,
    "meter": 17,
    "slow-setting": 18,
    "meters": 19,
    "slow-settings": 20,
    "bank": 21,
    "macro": 22,
    "model": 23,
    "forgets": 24,
    "lies": 25,
    "forgets-one": 26,
    "switches": 27,
    "forgets-late": 28,
    "forgets-mode": 29,
    "upper-end": 30,
    "lower-end": 31,
    "one-mode": 32,
    "forgets-option": 33,
    "forgets-value": 34,
    "forgets-rate": 35,
    "muted": 36,
}


@functools.cache
def _folder():
    folder = Path(tempfile.mkdtemp(prefix="blackbox_fx-odd-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def lv2_path():
    """The folder of the bundles that are built, for the environment variable LV2_PATH."""
    return _folder() / "lv2"


def _compiler(*arguments):
    flags = ["-O0", "-std=gnu++14", "-fPIC", "-fvisibility=hidden", "-w"]
    subprocess.run(["g++", *flags, *map(str, arguments)], check=True, timeout=120)


@functools.cache
def _system():
    """The path of the system's headers, with what g++ made of them, which it reads in half the time, beside it."""
    headers = Path(shutil.copy(SOURCES / "system.hpp", _folder()))
    _compiler("-x", "c++-header", headers, "-o", f"{headers}.gch")
    return headers


def _run(*arguments):
    folders = [f"-I{SOURCES}", f"-I{DPF}", f"-I{DPF / 'src'}"]
    _compiler("-include", _system(), *folders, *arguments)


@functools.cache
def _compiled(source, host, inputs, outputs):
    """A plugin compiled from `tests/odd`, of whatever kind is written into it."""
    library = _folder() / f"{source}-{host}-{inputs}-{outputs}.bin"
    options = [f"-DDISTRHO_PLUGIN_TARGET_{host.upper()}", f"-DNIN={inputs}", f"-DNOUT={outputs}"]
    _run(*options, "-shared", SOURCES / source, DPF / "DistrhoPluginMain.cpp", "-o", library, "-lpthread", "-ldl")
    return library.read_bytes()


def _written(library, name, kind, host, inputs=2, outputs=2, source="odd.cpp"):
    """Write a plugin that has this name and, unless its source has one only, is of this kind."""
    compiled = _compiled(source, host, inputs, outputs)
    assert NAMED in compiled and len(name) <= len(NAMED)
    assert compiled.count(CHOSEN) == (source == "odd.cpp")
    # the Turtle of an LV2 plugin goes on after its name
    named = compiled.replace(NAMED, name.encode().ljust(len(NAMED), b"_" if host == "lv2" else b"\0"))
    library.parent.mkdir(parents=True, exist_ok=True)
    library.write_bytes(named.replace(CHOSEN, b"odd kind %02d" % kind))


@functools.cache
def build(kind, host, inputs=2, outputs=2, source="odd.cpp"):
    """The address of a plugin of a kind, for the host "vst3", "vst2", "lv2" (on the path `lv2_path`) or "ladspa"."""
    name = f"{kind.title().replace('-', '')}{inputs}{outputs}"
    folder = _folder()
    binaries = {
        "vst3": folder / f"{name}.vst3/Contents/{platform.machine()}-linux/{name}.so",
        "vst2": folder / f"{name}-vst.so",
        "ladspa": folder / f"{name}-ladspa.so",
        "lv2": lv2_path() / f"{name}.lv2/{name}.so",
    }
    _written(binaries[host], name, KINDS.get(kind, KINDS["plain"]), host, inputs, outputs, source)
    if host == "lv2":
        describe = f"import ctypes; ctypes.CDLL('./{name}.so').lv2_generate_ttl(b'{name}')"
        subprocess.run([sys.executable, "-I", "-S", "-c", describe], cwd=binaries[host].parent, check=True, timeout=60)
        return f"lv2:urn:odd:{name.ljust(len(NAMED), '_')}"
    path = folder / f"{name}.vst3" if host == "vst3" else binaries[host]
    return f"{host}:{path}"


@functools.cache
def build_two():
    """The path of a VST3 that holds two plugins: Alpha, which is plain, and Beta, which has a bypass."""
    target = _folder() / "Two.vst3"
    library = target / f"Contents/{platform.machine()}-linux/Two.so"
    for name, kind in (("Alpha", "plain"), ("Beta", "bypass")):
        _written(library.with_name(f"{name}.bin"), name, KINDS[kind], "vst3")
    _run("-shared", SOURCES / "two_classes.cpp", "-o", library, "-ldl")
    return target
