import fc from "fast-check";
import { expect, test } from "vitest";
import { EventStreamParser, type ServerSentEvent, serverSentEvents } from "../../src/core/sse";

const parsed = (...pieces: string[]): ServerSentEvent[] => {
  const parser = new EventStreamParser();
  return pieces.flatMap((piece) => parser.push(piece));
};

test("an event has its kind, its data and its id", () => {
  expect(parsed("id: 7\nevent: token\ndata: {}\n\n")).toEqual([{ event: "token", data: "{}", id: "7" }]);
});

test("comments, unknown fields and events without data are passed over", () => {
  expect(parsed(": still here\n\nretry: 5\nevent: lost\n\ndata: kept\n\n")).toEqual([
    { event: "message", data: "kept", id: "" },
  ]);
});

test("several data lines are one text, and only one blank after the colon is eaten", () => {
  expect(parsed("data:a\ndata:  b\ndata\n\n")[0]?.data).toBe("a\n b\n");
});

test("an id stays in force until the next one, and one with a null in it is none", () => {
  const ids = parsed("id: 1\ndata: a\n\ndata: b\n\nid: x\0\ndata: c\n\n").map((event) => event.id);
  expect(ids).toEqual(["1", "1", "1"]);
});

test("an event that is cut off by the end of the stream is dropped", () => {
  expect(parsed("data: whole\n\ndata: half\n")).toHaveLength(1);
});

const line = fc.string({ unit: "grapheme" }).map((text) => text.replace(/[\r\n\0]/g, ""));
const event = fc.record({
  event: line.filter((text) => text !== ""),
  data: fc.array(line, { minLength: 1, maxLength: 4 }).map((lines) => lines.join("\n")),
  id: line,
});
const ends = fc.constantFrom("\n", "\r\n", "\r");

/** The events as a stream, with the given line end. */
const written = (events: readonly ServerSentEvent[], end: string): string =>
  events
    .map(({ event, data, id }) => {
      const fields = [`id: ${id}`, `event: ${event}`, ...data.split("\n").map((text) => `data: ${text}`)];
      return [": a comment", ...fields, "", ""].join(end);
    })
    .join("");

test("what is written is read again, wherever the bytes are cut", async () => {
  const cuts = fc.array(fc.nat({ max: 400 }), { maxLength: 12 });
  const holds = fc.asyncProperty(
    fc.array(event, { maxLength: 6 }),
    ends,
    cuts,
    fc.boolean(),
    async (events, end, at, mark) => {
      const bytes = new TextEncoder().encode((mark ? "\uFEFF" : "") + written(events, end));
      const places = [
        0,
        ...at.map((place) => Math.min(place, bytes.length)).sort((a, b) => a - b),
        bytes.length,
      ];
      async function* pieces(): AsyncGenerator<Uint8Array> {
        for (const [index, place] of places.entries())
          yield await Promise.resolve(bytes.slice(place, places[index + 1]));
      }
      const read: ServerSentEvent[] = [];
      for await (const each of serverSentEvents(pieces())) read.push(each);
      expect(read).toEqual(events);
    },
  );
  await fc.assert(holds, { numRuns: 300 });
});

test("no input breaks the parser, and cuts never change what is read", () => {
  const hostile = fc.array(
    fc.constantFrom("data", ":", " ", "\r", "\n", "id", "event", "x", "\uFEFF", "\0"),
    { maxLength: 60 },
  );
  fc.assert(
    fc.property(hostile, (tokens) => {
      expect(parsed(...tokens)).toEqual(parsed(tokens.join("")));
    }),
    { numRuns: 2_000 },
  );
});
