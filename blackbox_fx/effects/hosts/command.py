"""Any command-line program that reads a WAV file and writes one."""

from __future__ import annotations

import hashlib
import logging
import os
import shlex
import shutil
import string
import subprocess
from pathlib import Path
from typing import Any, final

import numpy as np

from blackbox_fx.audio import Audio, write
from blackbox_fx.core import checks, system
from blackbox_fx.effects.base import Effect
from blackbox_fx.effects.hosts.host import Host
from blackbox_fx.effects.request import RenderRequest, Settings
from blackbox_fx.errors import EffectError, ParameterError
from blackbox_fx.isolation import limits
from blackbox_fx.space import Space, Value

_FILES = ("in", "out")
# the only variables of the environment that a program gets, with TMPDIR and a locale whose numbers have a point
_ENVIRONMENT = ("PATH", "HOME", "LD_LIBRARY_PATH", "LADSPA_PATH", "LV2_PATH", "VST_PATH")
_log = logging.getLogger("blackbox_fx")
_MISSING = 0.1  # of the samples; when more are missing, that is said, once for each command
_SAID: set[str] = set()
_BITS = {"PCM_S8": 8, "PCM_U8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32}  # of formats that clip
_KILLED = 10.0  # seconds in which a program that is killed is gone
_SHOWN = 300  # characters of what a failing program printed


def _pieces(element: str) -> list[tuple[str, str | None]]:
    """An argument as pairs of literal text and the name of the placeholder behind it, if there is one."""
    try:
        parsed = list(string.Formatter().parse(element))
    except ValueError as error:
        raise ParameterError(f"Bad placeholder in {element!r} ({error}); double a brace that is meant.") from error
    for _, name, spec, conversion in parsed:
        if spec or conversion:
            raise ParameterError(f"The placeholder {{{name}}} in {element!r} must be a name alone, without ! or :.")
    return [(literal, name) for literal, name, _, _ in parsed]


def _text(value: Value) -> str:
    """A value as an argument: shortest digits that give it back, without an exponent; switches as 0 and 1."""
    if isinstance(value, float):
        return np.format_float_positional(value, trim="-")
    return str(int(value)) if isinstance(value, bool) else str(value)


def _last_words(path: Path) -> str:
    """The last three lines of what a program printed, as one."""
    text = path.read_bytes()[-4 * _SHOWN :].decode(errors="replace")
    lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
    return " / ".join(lines[-3:])[-_SHOWN:] or "it printed no error"


@final
class Command(Effect):
    """A program that reads a WAV file and writes one, such as `command:sox {in} {out} bass {gain_db}`.

    The text is split as a shell would, once, and no shell runs it. In its arguments, `{in}` and `{out}` stand for the
    files and `{name}` for the value of a parameter; `{{` is a brace. Each stays within its argument, whatever it
    holds. Numbers are written in full precision, switches as 0 or 1, choices as their text: use a choice where a
    program wants other words, and mind that a negative number begins with a minus.

    The files are WAV, 32-bit float, in a private folder that is removed after the render. The program sees PATH, HOME,
    library and plugin paths and nothing else of the environment (write `env NAME=value program ...` for more), counts
    in a locale with decimal points, and runs in the current folder. Output that is longer than the input is cut, what
    is shorter is padded with silence; where more than a tenth is missing, a warning says so, once. So does one where a
    program writes whole numbers, such as 16 bit, and they clip its output or it is too soft for them. Rendering is as
    pure as the program is.

    Args:
        command: the program and its arguments; the program is found in PATH now, and named by its whole path later.
        space: the parameters; each must stand in the command.
        seconds: after which the program and all that it started are killed; give `Processes` a longer deadline, since
            a worker that is killed leaves its program running.
        latency_samples: by which the program delays, at every sample rate; it is compensated.

    Raises:
        EffectError: no such program.
        ParameterError: an unknown placeholder, a parameter without one, no `{in}` or `{out}`, or a bad option.
    """

    def __init__(self, command: str, space: Space | None = None, seconds: float = 60, latency_samples: int = 0) -> None:
        parameters = Space() if space is None else space
        if not isinstance(parameters, Space):
            raise ParameterError(f"space must be a Space of parameters, got {space!r}.")
        try:
            program, *arguments = shlex.split(command) or [""]
        except ValueError as error:
            raise ParameterError(f"Cannot split the command {command!r} ({error}); write it as in a shell.") from error
        found = shutil.which(program)
        if found is None:
            raise EffectError(f"No such program: {program!r}; install it, or give its whole path.")
        self.program = str(Path(found).absolute())
        self.arguments = [_pieces(element) for element in arguments]
        self.seconds = checks.positive("seconds", seconds)
        self.latency_samples = checks.latency(latency_samples)
        super().__init__(f"command:{Path(program).name}", parameters)
        self._check_names()

    def _check_names(self) -> None:
        used = {name for pieces in self.arguments for _, name in pieces if name is not None}
        for name in self.space.parameters:
            if name in _FILES:
                raise ParameterError(f"A parameter of {self.name} is called {name!r}, which is a file; rename it.")
            if name not in used:
                raise ParameterError(f"{name} is not used by {self.name}; write {{{name}}} where its value goes.")
        for name in sorted(used - {*_FILES, *self.space.parameters}):
            if self.space.parameters:
                known = ", ".join([*_FILES, *self.space.parameters])
                raise ParameterError(f"Unknown placeholder {{{name}}} in {self.name}; known are {known}.")
            example = f"space=bfx.Space({{{name!r}: bfx.Continuous(0, 1)}})"
            raise ParameterError(f"{self.name} has {{{name}}} but no space that says its range; add {example}, say.")
        for name in _FILES:
            if name not in used:
                raise ParameterError(f"{self.name} has no {{{name}}}; write it where the name of that file goes.")

    def version(self) -> bytes:
        """The program's own file, and those that are named as arguments, such as a script."""
        named = [Path(pieces[0][0]) for pieces in self.arguments if len(pieces) == 1 and pieces[0][1] is None]
        files = [Path(self.program), *(path for path in named if path.is_file())]
        return b"".join(hashlib.blake2b(path.read_bytes()).digest() for path in files)

    def process(self, request: RenderRequest) -> Audio:
        """Renders a request; see `Effect.process`."""
        audio, sample_rate = request.audio, request.sample_rate
        with limits.worker_folder() as folder:
            write(folder / "in.wav", np.pad(audio, ((0, 0), (0, self.latency_samples))), sample_rate)
            self._execute(folder, request.settings)
            wet = self._read(folder / "out.wav", audio, round(sample_rate))[:, self.latency_samples :]
        missing = audio.shape[1] - wet.shape[1]
        if missing > _MISSING * audio.shape[1]:
            part = f"{missing} of {audio.shape[1]} samples"
            self._say("missing", f"wrote too little: {part} were missing, and silence was put there.")
        return np.pad(wet, ((0, 0), (0, missing))) if missing > 0 else wet[:, : audio.shape[1]]

    def _say(self, what: str, words: str) -> None:
        """Says something of what the program wrote, once for each command."""
        key = f"{what} {self.program} {self.arguments}"
        if key not in _SAID:
            _SAID.add(key)
            _log.warning("%s %s", self.name, words)

    def _execute(self, folder: Path, settings: Settings) -> None:
        words = {name: _text(value) for name, value in settings.items()}
        words |= {name: str(folder / f"{name}.wav") for name in _FILES}
        arguments = ["".join(text + (words[name] if name else "") for text, name in p) for p in self.arguments]
        kept = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        with (folder / "errors.txt").open("wb") as errors:
            try:
                process = subprocess.Popen(
                    [self.program, *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=errors,
                    env=kept | {"TMPDIR": str(folder), "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8"},
                    start_new_session=True,
                )
            except OSError as error:
                raise EffectError(f"Cannot start {self.program} ({error.strerror}); check the file.") from error
            try:
                status = process.wait(self.seconds)
            except subprocess.TimeoutExpired:
                status = None
            finally:
                system.kill_group(process.pid)
                process.wait(_KILLED)
        if status == 0:
            return
        said = _last_words(folder / "errors.txt")
        if status is None:
            raise EffectError(f"{self.name} took more than {self.seconds:g} s and was killed ({said}); raise seconds.")
        how = f"exited with status {status}" if status > 0 else f"was ended by {system.signal_name(-status)}"
        raise EffectError(f"{self.name} {how} at {settings} ({said}); try its command in a shell.")

    def _read(self, path: Path, audio: Audio, rate: int) -> Audio:
        import soundfile

        channels = len(audio)

        if not path.is_file():
            said = _last_words(path.with_name("errors.txt"))
            raise EffectError(f"{self.name} wrote no file to {{out}} ({said}); try its command in a shell.")
        try:
            with soundfile.SoundFile(path) as file:
                data: Any = file.read(dtype="float32", always_2d=True)
                got, bits = file.samplerate, _BITS.get(file.subtype)
        except (soundfile.SoundFileError, RuntimeError, TypeError, ValueError, MemoryError) as error:
            reason = " ".join(str(error).replace(str(path), "{out}").split())
            raise EffectError(f"{self.name} wrote no audio to {{out}} ({reason}); make it write WAV.") from error
        if got != rate:
            raise EffectError(f"{self.name} wrote audio at {got} Hz for {rate} Hz; make it keep the sample rate.")
        if data.shape[1] != channels:
            raise EffectError(f"{self.name} wrote {data.shape[1]} channels for {channels}; make it keep them.")
        if bits is not None:
            self._judge_whole_numbers(data, audio, bits)
        return np.ascontiguousarray(data.T, dtype=np.float32)

    def _judge_whole_numbers(self, data: Audio, audio: Audio, bits: int) -> None:
        """Says what whole numbers of so many bits lost: what was above full scale, or too soft for them."""
        step = 2.0 ** (1 - bits)
        clipped = int((np.abs(data) >= 1 - 1.5 * step).sum())
        remedy = "make it write 32-bit float, as sox does with -b 32 -e floating-point"
        if clipped > 1:
            self._say(
                "clipped", f"wrote {bits}-bit numbers, and {clipped} samples are clipped at full scale; {remedy}."
            )
        if np.abs(data).max(initial=0.0) < 8 * step and np.abs(audio).max() > 0:
            self._say("vanished", f"wrote {bits}-bit numbers, in which its soft output vanishes; {remedy}.")


HOST = Host(name="command", effect=Command, example="'command:sox {in} {out} reverse'", debian=("sox",))
