import { describe } from "vitest";
import { approvalFlows } from "./approvals";
import { chatFlows } from "./chat";
import { commandFlows } from "./commands";
import { Flow } from "./flow";
import { questionFlows } from "./questions";

// One window for all of them: to start one takes as long as several flows.
const flow = Flow.use({
  agent: { approvals: { write_file: "ask" } },
  // What only some flows are about, the service's rules say; the default is for the walkthrough, in service.test.ts.
  settings: { "chat.allowAnonymousAccess": true, "openhands.approvals": "service" },
});

describe("commands", () => commandFlows(flow));
describe("approvals", () => approvalFlows(flow));
describe("questions", () => questionFlows(flow));
describe("chat", () => chatFlows(flow));
