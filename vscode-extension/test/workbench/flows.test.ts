import { describe } from "vitest";
import { chatFlows } from "./chat";
import { commandFlows } from "./commands";
import { Flow } from "./flow";
import { questionFlows } from "./questions";

// One window for all of them: to start one takes as long as several flows.
const flow = Flow.use({
  agent: { approvals: { write_file: "ask" } },
  settings: { "chat.allowAnonymousAccess": true },
});

describe("commands", () => commandFlows(flow));
describe("questions", () => questionFlows(flow));
describe("chat", () => chatFlows(flow));
