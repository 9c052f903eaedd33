import type { TurnStatus, Workbench } from "@/generated/events";

export type {
  BudgetView as Budget,
  CallView,
  CellView,
  IterationView,
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
    unknown_events: 0,
  };
}
