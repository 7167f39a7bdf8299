"""Commands that are imported when they are used: `cortex --help` needs none of them."""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from typing import Any, Final

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

_MISUSE: Final[type[Exception]] = typer.BadParameter.__bases__[0]
"""What is raised for options that there are not; typer itself exports only this kind of it."""


@dataclass(frozen=True)
class Entry:
    """A command: its name, the function behind it as `module:function`, a line of help."""

    name: str
    target: str
    help: str
    misuse: int = 2
    """Exit code for options that there are not."""

    @property
    def installed(self) -> bool:
        """Whether its module is there."""
        module = self.target.partition(":")[0]
        try:
            return importlib.util.find_spec(module) is not None
        except ModuleNotFoundError:
            return False

    def load(self) -> Any:
        """The real command."""
        module, _, function = self.target.partition(":")
        app = typer.Typer(add_completion=False, rich_markup_mode=None)
        app.command(self.name)(getattr(importlib.import_module(module), function))
        return get_command(app)


class LazyCommand(TyperCommand):
    """Stands for a command in lists, and hands over to it when it is called."""

    def __init__(self, entry: Entry) -> None:
        super().__init__(entry.name, help=entry.help)
        self._entry = entry

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """The context of the real command."""
        try:
            return self._entry.load().make_context(info_name, args, parent=parent, **extra)
        except _MISUSE as error:
            told: Any = error
            told.exit_code = self._entry.misuse
            raise


def group_of(entries: tuple[Entry, ...]) -> type[TyperGroup]:
    """A group with these commands, in this order, and whatever else is added to it."""

    class LazyGroup(TyperGroup):
        def list_commands(self, ctx: Any) -> list[str]:
            """The names, those of `entries` first."""
            return [entry.name for entry in entries if entry.installed] + super().list_commands(ctx)

        def get_command(self, ctx: Any, cmd_name: str) -> Any:
            """A command by its name, or None."""
            entry = next((entry for entry in entries if entry.name == cmd_name and entry.installed), None)
            return LazyCommand(entry) if entry else super().get_command(ctx, cmd_name)

    return LazyGroup


def app_of(entries: tuple[Entry, ...], help: str) -> typer.Typer:
    """An application with these commands."""
    settings = {"help_option_names": ["-h", "--help"]}  # commands have them from their group
    return typer.Typer(
        cls=group_of(entries), no_args_is_help=True, help=help, rich_markup_mode=None, context_settings=settings
    )
