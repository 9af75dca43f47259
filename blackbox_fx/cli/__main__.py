"""Entry point of `blackbox-fx`."""

from __future__ import annotations

import sys

import typer
from rich.markup import escape

from blackbox_fx.cli import bench, effects, hosts, lab, mix, presets, profile, proxy, show
from blackbox_fx.errors import BlackBoxError

app = typer.Typer(
    help="Train networks through audio effects that cannot be differentiated.",
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
for command in (mix.demo, effects.effects, profile.inspect, profile.check, effects.render, presets.preset):
    app.command()(command)
train.command("mix")(mix.train_mix)
proxies.command("train")(proxy.train)
proxies.command("score")(proxy.score)
proxies.command("list")(proxy.listing)
for command in (
    bench.overhead,
    bench.audio,
    bench.lookahead,
    bench.hosts,
    lab.gradients,
    lab.chain,
    lab.multiplexed,
    lab.optimise,
    lab.discrete,
    lab.proxies,
    proxy.nets,
    hosts.soak,
    hosts.crashes,
):
    measure.command()(command)


def main() -> None:
    """Runs a command; a user's mistake is one sentence and exit code 2."""
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
