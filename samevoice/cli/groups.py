"""Command groups with a command that need not be named."""

from typing import ClassVar

from typer.core import TyperGroup


class RunByDefault(TyperGroup):
    """`samevoice GROUP ARGUMENTS` means `samevoice GROUP run ARGUMENTS`, unless another command is named."""

    default: ClassVar[str] = "run"
    alone: ClassVar[list[str]] = ["--help"]  # what the group's name means by itself

    def parse_args(self, ctx, args):
        args = args or self.alone
        named = bool(args) and args[0] in {*self.commands, "-h", "--help"}
        return super().parse_args(ctx, args if named else [self.default, *args])


class ListByDefault(RunByDefault):
    """The same with `list`, which needs no arguments either."""

    default = "list"
    alone: ClassVar[list[str]] = []
