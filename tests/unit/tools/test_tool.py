"""What a function must be to become a tool."""

from __future__ import annotations

from typing import Any

import pytest

from tools.tool import ToolContext, ToolResult, tool


def made(annotation: Any) -> None:
    """A tool whose parameter is of that kind."""

    async def use(ctx: ToolContext, x: Any) -> ToolResult:
        """Use it."""
        return ToolResult(str(x))

    use.__annotations__ = {"ctx": ToolContext, "x": annotation, "return": ToolResult}
    tool(effect="none")(use)


@pytest.mark.parametrize("kind", [str, int | None, list[str], list[int] | None, str | int, list[str | int]])
def test_plain_values_and_lists_of_them_are_taken(kind: Any) -> None:
    made(kind)


@pytest.mark.parametrize(
    "kind",
    [
        dict[str, str],
        list[list[str]],
        list[dict[str, int]],
        str | dict[str, str],
        int | list[dict[str, int]],
        list[str | list[str]],
        dict[str, int] | None,
    ],
)
def test_nested_ones_are_refused(kind: Any) -> None:
    with pytest.raises(TypeError, match="parameter 'x' is nested"):
        made(kind)
