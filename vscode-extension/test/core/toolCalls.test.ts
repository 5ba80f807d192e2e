import { expect, test } from "vitest";
import { ToolCalls } from "../../src/core/toolCalls";

test("calls are put together from their pieces, each with its own arguments", () => {
  const calls = new ToolCalls();
  calls.add([{ index: 0, id: "a", function: { name: "read", arguments: '{"pa' } }]);
  calls.add([
    { index: 1, id: "b", function: { name: "list" } },
    { index: 0, function: { arguments: 'th": "x"}' } },
  ]);
  expect(calls.whole()).toEqual([
    { id: "a", name: "read", input: { path: "x" } },
    { id: "b", name: "list", input: {} },
  ]);
});

test("a call without an id gets one, and without a name it is none", () => {
  const calls = new ToolCalls();
  calls.add([{ function: { name: "read", arguments: "not json" } }, { index: 1, id: "lost" }]);
  expect(calls.whole()).toEqual([{ id: "call_0", name: "read", input: {} }]);
});
