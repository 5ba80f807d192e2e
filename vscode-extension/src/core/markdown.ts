/** Text of a model made harmless: a picture in it would tell its server that, and what, somebody reads. */

/** The Markdown without images and HTML; code blocks stay as they are. */
export function withoutImages(markdown: string): string {
  return cleaned(markdown, /^ {0,3}\[[^\]]+\]:/m.test(markdown));
}

/** The same for text that comes in pieces: it is given on by whole paragraphs. */
export class HarmlessStream {
  #text = "";
  #given = 0;

  /** What may be shown now. */
  push(piece: string): string {
    this.#text += piece;
    return this.#upTo(this.#text.lastIndexOf("\n\n") + 2);
  }

  /** What is left at the end. */
  end(): string {
    return this.#upTo(this.#text.length);
  }

  #upTo(length: number): string {
    // What a reference means may come later, so every one could be an image.
    const harmless =
      length < 2 && length < this.#text.length ? "" : cleaned(this.#text.slice(0, length), true);
    const fresh = harmless.slice(this.#given);
    this.#given = Math.max(this.#given, harmless.length);
    return fresh;
  }
}

function cleaned(markdown: string, defines: boolean): string {
  let fence = "";
  let paragraph: string[] = [];
  const written: string[] = [];
  const flush = (): void => {
    if (paragraph.length > 0) written.push(harmless(paragraph.join("\n"), defines));
    paragraph = [];
  };
  for (const line of markdown.split("\n")) {
    if (fence) {
      written.push(line);
      if (closes(line, fence)) fence = "";
      continue;
    }
    fence = /^ {0,3}(`{3,}(?=[^`]*$)|~{3,})/.exec(line)?.[1] ?? "";
    if (fence || line.trim() === "") {
      flush();
      written.push(line);
    } else {
      paragraph.push(line);
    }
  }
  flush();
  return written.join("\n");
}

function closes(line: string, fence: string): boolean {
  const run = /^ {0,3}(`+|~+)[ \t]*\r?$/.exec(line)?.[1] ?? "";
  return run.startsWith(fence);
}

function harmless(paragraph: string, defines: boolean): string {
  const plain = paragraph.replace(/<(?=[a-z!/?])(?!https?:)/gi, "&lt;");
  return defines || /\]\s*[([]/.test(plain) ? plain.replaceAll("![", "[") : plain;
}
