"""``mser push-run``: the one command that sends something away, and only when it is run."""

from __future__ import annotations

import click

from mser.config import Workspace
from mser.hub.push import files_of, hub_api, push, require_repository
from mser.runs import study_folder
from mser.terminal import console, home_option, print_table


@click.command("push-run")
@click.argument("run")
@click.option("--to-hub", "repository", required=True, metavar="ORG/NAME", help="A model repository; made if absent.")
@click.option("--public", is_flag=True, help="For everybody; private if not given.")
@click.option("--predictions", is_flag=True, help="Also what was said of every test utterance, with ids and labels.")
@click.option("--dry-run", is_flag=True, help="Only list what would go; nothing is sent.")
@click.option("--message", default="", help="Of the commit.")
@home_option
def push_command(
    run: str, repository: str, public: bool, predictions: bool, dry_run: bool, message: str, workspace: Workspace
) -> None:
    """Push a run's models for use, its config and its card to a model hub.

    RUN: a run's folder or name. The token is the one of `hf auth login`, or HF_TOKEN.
    """
    require_repository(repository)
    folder = study_folder(run, workspace)
    files = files_of(folder, predictions)
    rows = [[name, f"{path.stat().st_size / 1e3:.1f}"] for name, path in files.items()]
    where = f"{repository}, {'public' if public else 'private'}"
    print_table(f"{'Would go' if dry_run else 'Goes'} to {where}", ["file", "kB"], rows)
    if public:
        console.print(
            "Everybody will have these files. The card names the licences of the corpora and speech models: see that "
            "they allow it.",
            style="yellow",
            soft_wrap=True,
        )
    if dry_run:
        console.print("Nothing was sent.")
        return
    done = push(files, repository, public, message or f"Run {folder.name}", hub_api())
    console.print(f"Pushed: {done}", soft_wrap=True)
