import { describe, expect, test } from "vitest";
import { cancelled, Fault } from "../../src/core/faults";
import { firstSentence, shortened, withTime, wording } from "../../src/core/wording";

const where = { baseUrl: "http://localhost:8000", canStart: false, hasKey: false };
const http = (status: number, message = "It said no", retryAfterSeconds?: number) =>
  new Fault("http", message, { status, ...(retryAfterSeconds !== undefined && { retryAfterSeconds }) });

test("a cancel is silent", () => {
  expect(wording(cancelled(), where)).toBeUndefined();
});

test("a service that is down can be started where that is possible", () => {
  const down = new Fault("unreachable", "ECONNREFUSED");
  expect(wording(down, { ...where, canStart: true })?.remedies[0]).toBe("start");
  expect(wording(down, where)).toEqual({
    message: "No service answers at http://localhost:8000 (ECONNREFUSED).",
    remedies: ["retry", "settings", "log"],
  });
});

describe("an error of the service", () => {
  test.each([
    [401, ["key", "settings"]],
    [403, ["settings", "log"]],
    [409, ["log"]],
    [422, ["log"]],
    [429, ["retry", "log"]],
    [500, ["retry", "log"]],
    [503, ["retry", "log"]],
  ])("%s offers %s", (status, remedies) => {
    expect(wording(http(status), where)?.remedies).toEqual(remedies);
  });

  test("tells its own words as a sentence, and when to come back", () => {
    expect(wording(http(429, "Too many requests.", 30), where)?.message).toBe(
      "Too many requests. Try again in 30 seconds.",
    );
    expect(wording(http(503, "No provider", 600), where)?.message).toBe(
      "No provider. Try again in 10 minutes.",
    );
  });

  test("about the key tells whether one was sent", () => {
    expect(wording(http(401), where)?.message).toContain("wants an API key");
    expect(wording(http(401), { ...where, hasKey: true })?.message).toContain("does not accept the API key");
  });
});

test.each([
  ["untrusted", "Only there", "Only there.", ["trust"]],
  ["missing", "It was not found", "It was not found.", ["install", "settings"]],
  ["program", "The service did not start: no port.", "The service did not start: no port.", ["retry", "log"]],
] as const)(
  "what keeps a command of this machine from running (%s) says so itself",
  (kind, said, message, remedies) => {
    expect(wording(new Fault(kind, said), where)).toEqual({ message, remedies });
  },
);

test("what nobody foresaw leads to the log", () => {
  expect(wording(new TypeError("x is undefined"), where)).toEqual({
    message: "Something unexpected went wrong: x is undefined.",
    remedies: ["log"],
  });
});

test("a shortened text is one line, and holds no link that a notification would follow", () => {
  expect(shortened("one\n  two")).toBe("one two");
  expect(shortened("x".repeat(200), 10)).toBe(`${"x".repeat(9)}…`);
  expect(shortened("[Allow](command:openhands.allow)")).toBe("[Allow] (command:openhands.allow)");
});

test.each([
  ["The sum is **turned around**. That is all.", "The sum is turned around."],
  ["# Done\n\n- I added `average_2.0`!\n- And a test.", "I added average_2.0!"],
  ["```py\nx = 1.\n```\nNow it\nworks\n\nReally.", "Now it works"],
  ["~~~\nonly code", ""],
  ["", ""],
])("the first sentence of %j is %j", (markdown, sentence) => {
  expect(firstSentence(markdown)).toBe(sentence);
});

test.each([
  ["Thinking", 9_999, "Thinking"],
  ["Thinking", 12_400, "Thinking (12 s)"],
  ["", 59_999, "59 s"],
  ["Thinking", 125_000, "Thinking (2 min 5 s)"],
])("%j after %d ms is told as %j", (message, milliseconds, told) => {
  expect(withTime(message, milliseconds)).toBe(told);
});
