"""`commandcenter serve`: the service, until it is stopped."""

from __future__ import annotations

import asyncio
import json
import os
from functools import partial

import click

from commandcenter.api.loopback import is_loopback
from commandcenter.cli import journal
from commandcenter.cli.failure import Interrupted
from commandcenter.cli.invocation import Invocation, invocation
from commandcenter.cli.signals import Stop, until_stopped
from commandcenter.core.errors import InputError
from commandcenter.settings import Settings


@click.command()
@click.option("--host", help="Address to listen on; by default 127.0.0.1.")
@click.option("--port", type=click.IntRange(0, 65535), help="By default 8001; 0 is any.")
@click.option("--json", "as_json", is_flag=True, help="Announce the address as a line of JSON.")
@invocation
def serve(invocation: Invocation, host: str | None, port: int | None, as_json: bool) -> int:
    """Serve the HTTP API, and go on with the runs that were interrupted."""
    settings = invocation.settings()
    chosen = settings.host if host is None else host
    if not is_loopback(chosen):
        raise InputError(
            f"The service has no password, so it does not listen on {chosen}.",
            hint="listen on 127.0.0.1, and reach it by ssh -L 8001:127.0.0.1:8001 THIS-MACHINE",
        )
    journal.keep(settings.data_dir)
    at = settings.port if port is None else port
    try:
        until_stopped(partial(_serve, settings, chosen, at, as_json))
    except Interrupted:
        return 0
    raise AssertionError("a service ends only when it is stopped")


async def _serve(settings: Settings, host: str, port: int, as_json: bool, stop: Stop) -> None:
    from commandcenter.api.app import create_api
    from commandcenter.app import running

    api = partial(create_api, host=host)
    async with running(settings, host=host, port=port, api=api) as service:
        stop.listen()
        told = {"url": service.url, "pid": os.getpid()}
        text = f"CommandCenter serves at {service.url} (Ctrl-C stops it)"
        click.echo(json.dumps(told) if as_json else text)
        await asyncio.Event().wait()
