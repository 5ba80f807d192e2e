/** Server-Sent Events, as in the WHATWG HTML standard, section 9.2. */

export interface ServerSentEvent {
  /** `message` where the stream names none. */
  event: string;
  data: string;
  /** The last id that the stream gave, up to here. */
  id: string;
}

/** Takes the stream's text in pieces that may be cut anywhere. */
export class EventStreamParser {
  #rest = "";
  #atStart = true;
  #afterReturn = false;
  #event = "";
  #data: string[] = [];
  #id = "";

  /** The events that this piece completes. */
  push(piece: string): ServerSentEvent[] {
    const events: ServerSentEvent[] = [];
    for (const line of this.#lines(piece)) {
      if (line !== "") {
        this.#field(line);
        continue;
      }
      const event = this.#dispatch();
      if (event) events.push(event);
    }
    return events;
  }

  #lines(piece: string): string[] {
    let fresh = piece;
    if (this.#atStart && fresh !== "") {
      fresh = fresh.replace(/^\uFEFF/, "");
      this.#atStart = false;
    }
    // The line feed of a CRLF that was cut in two ends no line of its own.
    if (this.#afterReturn && fresh.startsWith("\n")) fresh = fresh.slice(1);
    if (piece !== "") this.#afterReturn = piece.endsWith("\r");
    const lines = fresh.split(/\r\n|\r|\n/);
    lines[0] = this.#rest + (lines[0] ?? "");
    this.#rest = lines.pop() ?? "";
    return lines;
  }

  #field(line: string): void {
    const colon = line.indexOf(":");
    if (colon === 0) return;
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (name === "event") this.#event = value;
    else if (name === "data") this.#data.push(value);
    else if (name === "id" && !value.includes("\0")) this.#id = value;
  }

  #dispatch(): ServerSentEvent | undefined {
    const event = { event: this.#event || "message", data: this.#data.join("\n"), id: this.#id };
    const complete = this.#data.length > 0;
    this.#event = "";
    this.#data = [];
    return complete ? event : undefined;
  }
}

/** The events of a stream of bytes; one that the stream's end cuts off is dropped, as the standard says. */
export async function* serverSentEvents(pieces: AsyncIterable<Uint8Array>): AsyncGenerator<ServerSentEvent> {
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  const parser = new EventStreamParser();
  for await (const piece of pieces) {
    yield* parser.push(decoder.decode(piece, { stream: true }));
  }
}
