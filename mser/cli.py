"""The commands of the library (``mser``): what is cached, and what a trained run says."""

from __future__ import annotations

from importlib import import_module

import click

from mser import __version__
from mser.terminal import MserGroup

#: Name of a command -> its module and its name there. A module is imported when its command is asked for: looking into
#: a cache needs neither the speech models' libraries nor those of audio.
COMMANDS = {
    "corpora": ("mser.corpora.cli", "corpora_group"),
    "inspect": ("mser.inspect.cli", "inspect_group"),
    "predict": ("mser.predict.cli", "predict_command"),
    "explain": ("mser.predict.cli", "explain_command"),
    "serve": ("mser.serve.cli", "serve_command"),
    "export-head": ("mser.export.cli", "export_command"),
    "push-run": ("mser.hub.cli", "push_command"),
}


class LateGroup(MserGroup):
    """The group of ``mser``."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name]
        command: click.Command = getattr(import_module(module), name)
        return command


@click.group(cls=LateGroup)
@click.version_option(__version__)
def main() -> None:
    """Find corpora, look into what mser has cached, and put a trained run to use."""
