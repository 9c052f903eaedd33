import type { TurnStatus, Workbench } from "@/generated/events";

export type {
  ApprovalView,
  ArtifactView,
  BudgetView as Budget,
  CallView,
  CellView,
  IterationView,
  MemoryEdit,
  MessageView,
  Notice,
  OutputPart,
  RunView,
  SandboxView,
  Step,
  ToolView,
  TurnView,
  Workbench,
} from "@/generated/events";

/** A turn or run that has not ended yet is "running"; the rest are the words of the journal. */
export type Status = "running" | TurnStatus;

export function emptyWorkbench(sid: string, epoch = ""): Workbench {
  return {
    sid,
    epoch,
    seq: 0,
    title: "",
    turn_order: [],
    turns: {},
    runs: {},
    iterations: {},
    cells: {},
    calls: {},
    tools: {},
    messages: {},
    sandboxes: {},
    contexts: {},
    artifacts: {},
    approvals: {},
    memory: {},
    memory_edits: [],
    forked_from: null,
    unknown_events: 0,
  };
}
