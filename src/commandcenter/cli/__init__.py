"""The command line: one file a command, and a client of the service like any other."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NoReturn

import click

from commandcenter.cli import failure
from commandcenter.cli.cancel import cancel
from commandcenter.cli.doctor import doctor
from commandcenter.cli.events import events
from commandcenter.cli.invocation import Invocation
from commandcenter.cli.logs import logs
from commandcenter.cli.plan import plan
from commandcenter.cli.retry import retry
from commandcenter.cli.run import run
from commandcenter.cli.serve import serve
from commandcenter.cli.status import status


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(version("commandcenter"), prog_name="commandcenter")
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="COMMANDCENTER_DATA_DIR",
    show_envvar=True,
    help="Where runs, vaults and workspaces are kept.",
)
@click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Configuration file (TOML).",
)
@click.pass_context
def root(context: click.Context, data_dir: Path | None, config: Path | None) -> None:
    """Turn an implementation plan into merged, verified, reviewed pull requests."""
    context.obj = Invocation(data_dir, config)


for _command in (run, serve, status, logs, events, cancel, retry, doctor, plan):
    root.add_command(_command)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit with its code; nothing else exits."""
    try:
        code = root.main(arguments, prog_name="commandcenter", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our output is gone; Python must not complain of it once more at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 141
    except (Exception, KeyboardInterrupt) as error:
        code = failure.tell(error)
    sys.exit(code)
