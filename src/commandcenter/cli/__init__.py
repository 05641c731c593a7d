"""The command line: one file a command, and a client of the service like any other."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from gc import freeze, set_threshold  # not the module: a command of ours has its name
from importlib import import_module
from pathlib import Path
from typing import NoReturn

import click

from commandcenter.cli import failure
from commandcenter.cli.invocation import Invocation

_COMMANDS = (
    *("init", "run", "serve", "status", "report", "explain", "logs", "events", "cancel", "retry"),
    *("approve", "comment", "reject"),
    *("salvage", "gc", "hub", "doctor", "qualify", "plan"),
)
_COLLECTED_AFTER = 20_000
"""How many objects more than before there have to be for the garbage collector to look."""
_MODULES = {"comment": "approve", "reject": "approve"}
"""Of commands that share one."""


class _Commands(click.Group):
    """Imports a command when it is asked for, so that none pays for what only others need."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = _MODULES.get(cmd_name, cmd_name)
        command: click.Command = getattr(import_module(f"{__name__}.{module}"), cmd_name)
        return command


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="commandcenter", prog_name="commandcenter")
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


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit with its code; nothing else exits."""
    # Most of what is made lives for good: to look through it all for garbage is what costs.
    set_threshold(_COLLECTED_AFTER, 50, 100)
    try:
        code = root.main(arguments, prog_name="commandcenter", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our output is gone; Python must not complain of it once more at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 141
    except (Exception, KeyboardInterrupt) as error:
        code = failure.tell(error)
    # The process ends: nobody needs what its garbage collector would give back then.
    freeze()
    sys.exit(code)
