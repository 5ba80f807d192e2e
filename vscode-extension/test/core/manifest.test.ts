import { readFile } from "node:fs/promises";
import { expect, test } from "vitest";
import { parseAddress } from "../../src/core/address";
import { COMMAND_IDS } from "../../src/core/commandIds";

interface Manifest {
  contributes: {
    commands: { command: string; title: string }[];
    menus: Record<string, { command: string }[]>;
    configuration: { properties: Record<string, { default: unknown }> };
  };
  capabilities: { untrustedWorkspaces: { restrictedConfigurations: string[] } };
}

const manifest = JSON.parse(
  await readFile(new URL("../../package.json", import.meta.url), "utf8"),
) as Manifest;
const { commands, menus, configuration } = manifest.contributes;

test("every command of the manifest has a handler, and the other way round", () => {
  expect(commands.map((each) => each.command).toSorted()).toEqual([...COMMAND_IDS].sort());
});

test("menus name commands that there are", () => {
  const named = Object.values(menus).flatMap((entries) => entries.map((entry) => entry.command));
  expect(named.filter((command) => !(COMMAND_IDS as readonly string[]).includes(command))).toEqual([]);
});

test("the names that people rely on", () => {
  const titles = Object.fromEntries(commands.map((each) => [each.command, each.title]));
  expect(titles["openhands.askOpenHands"]).toBe("Ask OpenHands");
  expect(titles["openhands.invokeCodeAgent"]).toBe("Ask OpenHands Code Agent");
  expect(configuration.properties["openhands.api.baseUrl"]?.default).toBe("http://localhost:8000");
});

test("a folder that is not trusted cannot redirect what is sent, name a command, or have the agent not ask", () => {
  const restricted = manifest.capabilities.untrustedWorkspaces.restrictedConfigurations;
  expect(restricted.toSorted()).toEqual([
    "openhands.api.baseUrl",
    "openhands.apply",
    "openhands.approvals",
    "openhands.service.command",
  ]);
  expect(configuration.properties["openhands.approvals"]?.default).toBe("ask");
});

test.each([
  [" http://localhost:8000/ ", "http://localhost:8000"],
  ["https://example.org/agent//", "https://example.org/agent"],
])("%j is an address", (written, address) => {
  expect(parseAddress(written)).toBe(address);
});

test.each(["", "localhost:8000", "file:///etc/passwd", "http://me:secret@host", "http://host/?a=b"])(
  "%j is none",
  (written) => {
    expect(() => parseAddress(written)).toThrow(/address of the service/);
  },
);
