import { expect, test } from "vitest";
import { agentRequest, askRequest, conversation, type Screen } from "../../src/core/requests";

const screen: Screen = {
  fileName: "a.py",
  languageId: "python",
  text: "x = 1\ny = 2\n",
  selected: "",
  lines: [2, 2],
};

test("a question takes along what is selected, and no more of the file than is read", () => {
  const long = { ...screen, selected: "x = 1", text: "x".repeat(20_000) };
  const request = askRequest("Why?", long, "fastest");
  expect(request).toMatchObject({ prompt: "Why?", selected_text: "x = 1", model_quality: "fastest" });
  expect(request.active_file_content).toHaveLength(10_000);
  expect(askRequest("Why?", undefined, undefined)).toEqual({ prompt: "Why?" });
});

test("a file that is selected as a whole is not sent twice", () => {
  const all = { ...screen, selected: "x = 1\ny = 2" };
  expect(askRequest("Why?", all, undefined)).toEqual({ prompt: "Why?", selected_text: all.selected });
  expect(askRequest("Why?", screen, undefined)).toEqual({ prompt: "Why?", active_file_content: screen.text });
  expect(askRequest("Why?", { ...screen, text: "" }, undefined)).toEqual({ prompt: "Why?" });
});

test("an instruction goes along with how it is to be carried out", () => {
  const manner = { quality: "fastest", asksFirst: true } as const;
  expect(agentRequest("Do it.", "thread-1", undefined, undefined, manner)).toEqual({
    instruction: "Do it.",
    thread_id: "thread-1",
    approvals: { "*": "ask" },
    model_quality: "fastest",
  });
});

test.each([
  [{}, "The cursor is in a.py, line 2."],
  [{ selected: "y = 2" }, "Selected in a.py, line 2:\ny = 2"],
  [{ selected: "x = 1\ny = 2", lines: [1, 2] as const }, "Selected in a.py, lines 1 to 2:\nx = 1\ny = 2"],
])("an instruction says where %j is", (fields, context) => {
  const request = agentRequest("Do it.", "thread-1", { ...screen, ...fields }, "/p", {});
  expect(request).toEqual({
    instruction: "Do it.",
    thread_id: "thread-1",
    context,
    language: "python",
    project_directory: "/p",
  });
});

test("a chat goes along with its question, the latest turns first when it is long", () => {
  expect(conversation([], "Why?")).toBe("Why?");
  const turns = [
    { by: "person", text: "What is it?" },
    { by: "model", text: "A sum." },
  ] as const;
  expect(conversation(turns, "Why?")).toBe("I asked: What is it?\n\nYou answered: A sum.\n\nNow I ask: Why?");
  const long = [{ by: "model", text: "x".repeat(6_000) } as const, ...turns];
  expect(conversation(long, "Why?")).toBe(conversation(turns, "Why?"));
});
