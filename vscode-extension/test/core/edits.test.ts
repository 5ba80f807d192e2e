import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { applied, destination, type Plan, planEdit } from "../../src/core/edits";

const text = "def add(a, b):\n    return a + b\n\n\nprint(add(1, 2))\n";
const at = (part: string, whole = text): [number, number] => {
  const start = whole.indexOf(part);
  return [start, start + part.length];
};
const place = (part: string, whole = text) => destination("file:///calc.py", whole, ...at(part, whole));
const cursor = (offset: number, whole = text) => destination("file:///calc.py", whole, offset, offset);

/** The document after the plan's edit. */
const result = (plan: Plan, whole = text): string => {
  if (plan.kind === "lost") throw new Error("the place is lost");
  return applied(whole, plan.edit);
};

describe("an unchanged document", () => {
  test("has its selection replaced, and only that", () => {
    const plan = planEdit(place("    return a + b"), text, "return int(a) + int(b)\n", false);
    expect(plan.kind).toBe("apply");
    expect(result(plan)).toBe(text.replace("return a + b", "return int(a) + int(b)"));
  });

  test("keeps the line end of a selection of whole lines", () => {
    const whole = "a\nb\nc\n";
    expect(result(planEdit(place("b\n", whole), whole, "x\ny", false), whole)).toBe("a\nx\ny\nc\n");
  });

  test("is reviewed first if the person wants it so", () => {
    expect(planEdit(place("a + b"), text, "b + a", true)).toMatchObject({ kind: "review", changed: false });
  });

  test("takes code at the cursor", () => {
    const whole = "class A:\n    \n";
    const plan = planEdit(cursor(whole.length - 1, whole), whole, "x = 1\ny = 2\n", false);
    expect(result(plan, whole)).toBe("class A:\n    x = 1\n    y = 2\n");
  });

  test("gets lines of their own for code in front of other code", () => {
    expect(result(planEdit(cursor(0), text, "import math", false))).toBe(`import math\n${text}`);
  });
});

describe("the code", () => {
  test("is indented as what it replaces", () => {
    const whole = "class A:\n    def f(self):\n        return 1\n";
    const code = "def f(self):\n    return 2";
    const [start, end] = at("def f(self):\n        return 1", whole);
    const inner = destination("u", whole, start, end);
    const outer = destination("u", whole, start - 4, end);
    const expected = "class A:\n    def f(self):\n        return 2\n";
    expect(result(planEdit(inner, whole, code, false), whole)).toBe(expected);
    expect(result(planEdit(outer, whole, code, false), whole)).toBe(expected);
  });

  test("is not indented twice", () => {
    const whole = "if x:\n\ta()\n";
    expect(result(planEdit(place("\ta()", whole), whole, "\tb()\n\tc()", false), whole)).toBe(
      "if x:\n\tb()\n\tc()\n",
    );
  });

  test("has the document's line ends", () => {
    const whole = "a\r\nb\r\n";
    expect(result(planEdit(place("a", whole), whole, "x\ny", false), whole)).toBe("x\r\ny\r\nb\r\n");
  });
});

describe("a document that changed in the meantime", () => {
  test("is reviewed, at the place where the selected text is now", () => {
    const later = `import math\n\n${text}`;
    const plan = planEdit(place("    return a + b"), later, "return 0", false);
    expect(plan).toMatchObject({ kind: "review", changed: true });
    expect(result(plan, later)).toBe(later.replace("return a + b", "return 0"));
  });

  test.each([
    ["the selected text is gone", "print(1)\n"],
    ["the selected text is there twice, elsewhere", "x\nreturn a + b\nreturn a + b\n"],
  ])("takes no edit when %s", (_, later) => {
    expect(planEdit(place("return a + b"), later, "return 0", false).kind).toBe("lost");
  });

  test("takes a mere insertion within its bounds", () => {
    expect(planEdit(cursor(text.length), "", "x", false)).toMatchObject({
      kind: "review",
      edit: { start: 0, end: 0 },
    });
  });
});

test("text outside of the selection is never touched", () => {
  const document = fc.string({ unit: fc.constantFrom("a", "b", " ", "\t", "\n", "\r\n", "é") });
  const anywhere = fc.tuple(document, document, fc.nat(), fc.nat(), document, fc.boolean());
  fc.assert(
    fc.property(anywhere, ([before, after, a, b, code, same]) => {
      const [start, end] = [a % (before.length + 1), b % (before.length + 1)].sort((x, y) => x - y) as [
        number,
        number,
      ];
      const where = destination("u", before, start, end);
      const now = same ? before : after;
      const plan = planEdit(where, now, code, false);
      if (plan.kind === "lost") return;
      const { edit } = plan;
      expect(now.slice(edit.start, edit.end)).toBe(where.before);
      expect(plan.kind).toBe(now === before ? "apply" : "review");
    }),
    { numRuns: 500 },
  );
});
