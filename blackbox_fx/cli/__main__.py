"""Entry point of `blackbox-fx`."""

from __future__ import annotations

import io
import sys
from typing import Annotated

import typer
from rich.markup import escape

from blackbox_fx import __version__
from blackbox_fx.cli import effects, lmms, normalise, prepare, presets, profile, proxy
from blackbox_fx.cli.bench import checks, choice, coverage, faults, gradients, timing, training
from blackbox_fx.errors import BlackBoxError
from blackbox_fx.report import terminal as show
from blackbox_fx.tasks.matching import commands as matching
from blackbox_fx.tasks.mixing import commands as mix
from blackbox_fx.tasks.style import commands as style

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
train = typer.Typer(help="Train networks.", no_args_is_help=True)
measure = typer.Typer(help="Measure, on this machine.", no_args_is_help=True)
proxies = typer.Typer(help="Neural proxies of effects.", no_args_is_help=True)
app.add_typer(train, name="train")
app.add_typer(proxies, name="proxy")
app.add_typer(measure, name="bench")
for command in (
    mix.demo,
    mix.mix,
    matching.match,
    style.transfer,
    effects.effects,
    profile.inspect,
    profile.check,
    prepare.prepare,
    normalise.normalise,
    effects.render,
    presets.preset,
    lmms.lmms,
):
    app.command()(command)
train.command("mix")(mix.train_mix)
train.command("style")(style.train_style)
train.command("encoder")(style.train_encoder)
proxies.command("train")(proxy.train)
proxies.command("score")(proxy.score)
proxies.command("list")(proxy.listing)
for command in (
    timing.overhead,
    timing.audio,
    timing.lookahead,
    timing.step,
    timing.twins,
    timing.mixdown,
    timing.hosts,
    checks.checks,
    coverage.coverage,
    choice.choice,
    training.training,
    training.consoles,
    gradients.gradients,
    gradients.chain,
    gradients.multiplexed,
    gradients.optimise,
    gradients.discrete,
    gradients.proxies,
    proxy.nets,
    faults.soak,
    faults.crashes,
):
    measure.command()(command)
measure.command("mixing")(mix.bench_mixing)
measure.command("mixes")(mix.bench_mixes)
measure.command("match")(matching.bench_match)
measure.command("learning")(style.bench_learning)
measure.command("transfer")(style.bench_transfer)
measure.command("encoder")(style.bench_encoder)


def _show_version(wanted: bool) -> None:
    if wanted:
        show.out.print(f"blackbox-fx {__version__}", highlight=False)
        raise typer.Exit


@app.callback()
def top(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version and exit.")
    ] = False,
) -> None:
    """Train networks through audio effects that cannot be differentiated."""


def main() -> None:
    """Runs a command; a user's mistake is one sentence and exit code 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # for names of files that are no text
    try:
        app()
    except BlackBoxError as error:
        show.err.print(f"[bold red]error:[/] {escape(str(error))}", soft_wrap=True, highlight=False)
        sys.exit(2)
    except KeyboardInterrupt:
        show.err.print("stopped")
        sys.exit(130)


if __name__ == "__main__":
    main()
