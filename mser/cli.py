"""The commands of the library (``mser``): what is cached, and what a trained run says."""

from __future__ import annotations

from importlib import import_module

import click

from mser import __version__
from mser.terminal import MserGroup

#: Name of a command -> its module, its name there, and what it does. A module is imported when its command is asked
#: for: looking into a cache needs neither the speech models' libraries nor those of audio, and help needs nothing.
COMMANDS = {
    "corpora": (
        "mser.corpora.cli",
        "corpora_group",
        "List the corpora that mser knows, check definitions of them, propose one of your own.",
    ),
    "inspect": (
        "mser.inspect.cli",
        "inspect_group",
        "Show what the stores hold and where the emotion is: no GPU, no audio, no network.",
    ),
    "predict": ("mser.predict.cli", "predict_command", "Tell the emotion of recordings by a trained run."),
    "explain": (
        "mser.predict.cli",
        "explain_command",
        "Show which experts, layers and moments of a clip carried the decision about it.",
    ),
    "serve": (
        "mser.serve.cli",
        "serve_command",
        "Show a page on this machine: drop or record a clip, and see what a trained run says of it.",
    ),
    "export-head": (
        "mser.export.cli",
        "export_command",
        "Write a run's model for use, of one language, as an ONNX file.",
    ),
    "push-run": (
        "mser.hub.cli",
        "push_command",
        "Push a run's models for use, its config and its card to a model hub.",
    ),
}


class LateGroup(MserGroup):
    """The group of ``mser``."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, name, _ = COMMANDS[cmd_name]
        command: click.Command = getattr(import_module(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Without importing any command."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in COMMANDS.items()])


@click.group(cls=LateGroup)
@click.version_option(__version__)
def main() -> None:
    """Find corpora, look into what mser has cached, and put a trained run to use."""
