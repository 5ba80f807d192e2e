/** Every command that the manifest names. */
export const COMMAND_IDS = [
  "openhands.askOpenHands",
  "openhands.invokeCodeAgent",
  "openhands.answerQuestion",
  "openhands.checkConnection",
  "openhands.startService",
  "openhands.stopService",
  "openhands.installModel",
  "openhands.setApiKey",
  "openhands.clearApiKey",
  "openhands.showLog",
  "openhands.refreshThreads",
  "openhands.showResult",
  "openhands.openDiff",
  "openhands.continueThread",
  "openhands.rewindThread",
  "openhands.cancelThread",
  "openhands.deleteThread",
  "openhands.applyProposal",
  "openhands.discardProposal",
  "openhands.allow",
  "openhands.refuse",
  "openhands.refuseBecause",
] as const;

export type CommandId = (typeof COMMAND_IDS)[number];
