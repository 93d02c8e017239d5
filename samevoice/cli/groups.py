"""Command groups with a command that need not be named."""

from typer.core import TyperGroup


class RunByDefault(TyperGroup):
    """`samevoice GROUP ARGUMENTS` means `samevoice GROUP run ARGUMENTS`, unless another command is named."""

    def parse_args(self, ctx, args):
        first = args[0] if args else "--help"
        return super().parse_args(ctx, args if first in {*self.commands, "-h", "--help"} else ["run", *args])
