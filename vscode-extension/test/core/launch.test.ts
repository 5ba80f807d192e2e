import { expect, test } from "vitest";
import { findCommand, isLocal, planLaunch } from "../../src/core/launch";

const on =
  (...files: string[]) =>
  (file: string) =>
    files.includes(file);

test("the command is looked for on PATH, then where desktops forget to look", () => {
  const env = { PATH: "/usr/bin:relative::/opt/bin", HOME: "/home/me" };
  expect(findCommand("agent-service", env, on("/opt/bin/agent-service"))).toBe("/opt/bin/agent-service");
  const local = "/home/me/.local/bin/agent-service";
  expect(findCommand("agent-service", env, on(local))).toBe(local);
  expect(findCommand("agent-service", env, on("relative/agent-service"))).toBeUndefined();
});

test("a path is taken as it is, unless it leads into the open folder", () => {
  expect(findCommand("/x/agent-service", {}, on("/x/agent-service"))).toBe("/x/agent-service");
  expect(findCommand("/x/agent-service", {}, on())).toBeUndefined();
  expect(findCommand("./agent-service", { PATH: "/bin" }, () => true)).toBeUndefined();
  expect(findCommand("", { PATH: "/bin" }, () => true)).toBeUndefined();
});

test("the service gets the address, the folders, a folder of its own and a clean environment", () => {
  const env = {
    PATH: "/bin",
    PYTHONPATH: "/evil",
    VIRTUAL_ENV: "/v",
    ELECTRON_RUN_AS_NODE: "1",
    GROQ_API_KEY: "k",
    X: undefined,
  };
  const wish = { baseUrl: "http://localhost:9000", roots: ["/a", "/b c"], cwd: "/own", env };
  expect(planLaunch("/bin/agent-service", wish)).toEqual({
    command: "/bin/agent-service",
    args: ["serve", "--host", "127.0.0.1", "--port", "9000", "--allow-root", "/a", "--allow-root", "/b c"],
    cwd: "/own",
    env: { PATH: "/bin", GROQ_API_KEY: "k" },
  });
});

test.each([
  ["http://localhost:8000", true],
  ["http://[::1]:8000", true],
  ["https://localhost:8000", false],
  ["http://example.org", false],
])("%s is local: %s", (url, local) => {
  expect(isLocal(url)).toBe(local);
});
