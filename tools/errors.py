"""Errors of the tools room. Each message is written for the model: what happened, what is allowed."""


class ToolError(Exception):
    """The call cannot be done. The message goes back to the model, prefixed with `Error: `."""


class UnknownTool(ToolError):
    """No tool has that name."""


class InvalidArguments(ToolError):
    """The arguments do not fit the tool's schema."""


class PassageNotFound(ToolError):
    """The text to be replaced is not in the file, or not in one place only."""


class StaleFile(ToolError):
    """The file is no longer what the effect was planned against: somebody else changed it."""


class ProtectedPath(ToolError):
    """The path is one that tools do not touch, whatever the model was told."""


class FileTooLarge(ToolError):
    """The file is larger than a call may read."""
