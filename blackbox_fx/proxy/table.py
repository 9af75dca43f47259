"""Scores as rows of text, for terminals and pages."""

from __future__ import annotations

from collections.abc import Mapping

from blackbox_fx.proxy.records import Scores, Sound

Table = list[tuple[str, ...]]


def score_table(scores: Scores, baselines: Mapping[str, Sound]) -> Table:
    """Headings, then the scores of the proxy's output, then those of the baselines."""
    table: Table = [("", "ESR", "median", "STFT distance", "loudness error, LU")]
    for name, s in (("proxy", scores.sound), *baselines.items()):
        cells = (pm(s.esr, s.esr_error), f"{s.esr_median:.2g}", pm(s.stft, s.stft_error))
        table.append((name, *cells, pm(s.loudness_lu, s.loudness_error)))
    return table


def gradient_table(scores: Scores) -> Table:
    """Headings, then the scores of both gradients."""
    p, a = scores.parameters, scores.audio
    table: Table = [("gradient of", "cosine", "median", "worst tenth", "measured on")]
    if p.mean is None or p.error is None or p.median is None or p.low is None:
        table.append(("parameters", "-", "-", "-", f"none of {p.items} settings: the effect does nothing there"))
    else:
        where = f"{p.active} of {p.items} settings, where the effect is active"
        where += f"; at {p.unknown} more its gradient is not known" if p.unknown else ""
        table.append(("parameters", pm(p.mean, p.error), f"{p.median:.3f}", f"{p.low:.3f}", where))
    where = f"{a.items} clips, {a.directions} directions each; a wire has {a.wire:.3f}"
    table.append(("audio", pm(a.mean, a.error), "-", "-", where))
    return table


def pm(value: float, error: float) -> str:
    """A value and its standard error."""
    return f"{value:.3g} ± {error:.1g}" if error < 9.5 else f"{value:.0f} ± {error:.0f}"


def comparison(kept: Scores, found: Scores) -> Table:
    """Headings, then each score as kept on a card and as found now."""
    table: Table = [("score", "on the card", "now")]
    words = {"esr": "ESR", "esr_median": "ESR, median", "stft": "STFT distance", "loudness_lu": "loudness error, LU"}
    for name, said in words.items():
        table.append((said, *(f"{getattr(s.sound, name):.3g}" for s in (kept, found))))
    for name, said in (("mean", "mean"), ("median", "median"), ("low", "worst tenth")):
        cells = (getattr(s.parameters, name) for s in (kept, found))
        table.append((f"parameter gradient, {said}", *("-" if c is None else f"{c:.3f}" for c in cells)))
    table.append(("active settings", *(f"{s.parameters.active} of {s.parameters.items}" for s in (kept, found))))
    table.append(("audio gradient, mean", *(f"{s.audio.mean:.3f}" for s in (kept, found))))
    table.append(("times real time", *(f"{s.realtime:.3g}" for s in (kept, found))))
    return table
