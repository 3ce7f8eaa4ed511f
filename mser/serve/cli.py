"""``mser serve``: a local page that judges clips."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

from mser.config import Workspace
from mser.errors import ConfigError
from mser.runs import run_path
from mser.serve import MEGABYTES, PORT, SECONDS
from mser.terminal import Words, console, home_option

if TYPE_CHECKING:
    from mser.serve.service import Limits, Service
    from mser.serve.uploads import Uploads


@click.command("serve")
@click.option("--run", "run", envvar="RUN", help="The run that is chosen first: its folder, name, or one model file.")
@click.option(
    "--upstreams", envvar="UPSTREAMS", type=Words(), default="", help="Folders of upstreams, if they lie in one."
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Other than this machine's own: open to others.")
@click.option("--port", type=click.IntRange(0, 65535), default=PORT, show_default=True, help="0: any free one.")
@click.option("--open/--no-open", "opened", default=False, show_default=True, help="Open it in the browser.")
@click.option("--megabytes", type=click.FloatRange(0.1), default=MEGABYTES, show_default=True, help="Largest upload.")
@click.option("--seconds", type=click.FloatRange(1), default=SECONDS, show_default=True, help="Longest clip.")
@click.option("--device", envvar="DEVICE", default="auto", show_default=True)
@home_option
def serve_command(workspace: Workspace, **options: Any) -> None:
    """Show a page on this machine: drop or record a clip, and see what a trained run says of it.

    No clip is kept, and nothing is sent to another machine.
    """
    from mser.serve.uploads import temporary_uploads

    # Ctrl-C is how a page is closed, not how it fails.
    with suppress(KeyboardInterrupt), temporary_uploads() as uploads:
        _serve(workspace, uploads, options)
    console.print("Stopped. No clip was kept.")


def _serve(workspace: Workspace, uploads: Uploads, options: dict[str, Any]) -> None:
    from mser.serve.guard import Guard, is_loopback, quiet_environment, refuse_other_hosts

    quiet_environment(uploads.folder)
    # Seconds to import.
    with console.status("Starting ..."):
        try:
            from mser.serve.page import application
            from mser.serve.server import address, bound, serve
        except ModuleNotFoundError as error:
            raise ConfigError(
                "The page needs libraries that are not installed.",
                found=error,
                hint='pip install "mser[serve]", or in a checkout: .venv/bin/pip install -e ".[serve]"',
            ) from error
        from mser.serve.service import Limits

        service = _service(workspace, uploads, options, Limits(options["megabytes"], options["seconds"]))
        listening = bound(options["host"], options["port"])
        refuse_other_hosts()
        if options["run"]:
            service.recognizer(next(iter(service.runs)))
        page = application(service)
    local = is_loopback(options["host"])
    if not local:
        console.print(
            f"Whoever reaches {options['host']} can use this page: it has no password, and clips travel unencrypted.",
            style="yellow",
            soft_wrap=True,
        )
    console.print(f"{address(listening)} is open until Ctrl-C.", soft_wrap=True)
    serve(Guard(page, service.limits.size, local), listening, options["opened"])


def _service(workspace: Workspace, uploads: Uploads, options: dict[str, Any], limits: Limits) -> Service:
    from mser.serve.runs import runs_of
    from mser.serve.service import Service

    runs, troubles = runs_of(workspace, run_path(options["run"], workspace) if options["run"] else None)
    for trouble in troubles:
        console.print(f"Not offered: {trouble}", style="yellow", markup=False, soft_wrap=True)
    return Service(runs, uploads, options["upstreams"], options["device"], limits)
