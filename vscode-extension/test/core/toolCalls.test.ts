import { expect, test } from "vitest";
import type { ToolCallDelta } from "../../src/core/client";
import { ToolCalls } from "../../src/core/toolCalls";

const piece = (
  index: number | null,
  id: string | null,
  name: string | null,
  args: string | null = null,
): ToolCallDelta => ({ index, id, function: { name, arguments: args } });

test("calls are put together from their pieces, each with its own arguments", () => {
  const calls = new ToolCalls();
  calls.add([piece(0, "a", "read", '{"pa')]);
  calls.add([piece(1, "b", "list"), piece(0, null, null, 'th": "x"}')]);
  expect(calls.whole()).toEqual([
    { id: "a", name: "read", input: { path: "x" } },
    { id: "b", name: "list", input: {} },
  ]);
});

test("a call without an id gets one, and without a name it is none", () => {
  const calls = new ToolCalls();
  calls.add([piece(null, null, "read", "not json"), { index: 1, id: "lost", function: null }]);
  expect(calls.whole()).toEqual([{ id: "call_0", name: "read", input: {} }]);
});
