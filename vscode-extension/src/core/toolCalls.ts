/** Tool calls of OpenAI's protocol, put together from the pieces in which they are streamed. */

import type { ToolCallDelta } from "./client";

export interface WholeToolCall {
  readonly id: string;
  readonly name: string;
  readonly input: object;
}

export class ToolCalls {
  readonly #calls: { id: string; name: string; written: string }[] = [];

  add(deltas: readonly ToolCallDelta[]): void {
    for (const delta of deltas) {
      const call = (this.#calls[delta.index ?? 0] ??= { id: "", name: "", written: "" });
      call.id ||= delta.id ?? "";
      call.name ||= delta.function?.name ?? "";
      call.written += delta.function?.arguments ?? "";
    }
  }

  /** At the end of the answer. Arguments that are no JSON object are empty, so that the tool can object. */
  whole(): WholeToolCall[] {
    const named = this.#calls.filter((call) => call.name !== "");
    return named.map(({ id, name, written }, index) => ({
      id: id || `call_${index}`,
      name,
      input: inputOf(written),
    }));
  }
}

function inputOf(written: string): object {
  try {
    const value: unknown = JSON.parse(written);
    return typeof value === "object" && value !== null ? value : {};
  } catch {
    return {};
  }
}
