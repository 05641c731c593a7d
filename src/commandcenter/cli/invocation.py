"""What was given before the command: where the data and the settings are."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import click

from commandcenter.settings import Settings, configured_path, load


@dataclass(frozen=True)
class Invocation:
    """Options of the command line as a whole."""

    data_dir: Path | None
    config: Path | None

    def settings(self) -> Settings:
        """Return the settings, with the options over the environment over the file.

        Raises:
            InputError: the configuration is wrong.
        """
        environ = dict(os.environ)
        if self.data_dir is not None:
            environ["COMMANDCENTER_DATA_DIR"] = str(self.data_dir)
        return load(environ, config=self.config)

    def config_path(self) -> Path:
        """Return the path of the configuration, whether it is there or not."""
        return self.config or configured_path(os.environ)


invocation = click.make_pass_decorator(Invocation)
