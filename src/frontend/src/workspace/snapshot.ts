import { emptyWorkbench, type Workbench } from "./state";

/** The server's state at `seq`, made by execution/workbench.py: the same tables as ours. */
export function fromSnapshot(frame: { sid: string; epoch: string; seq: number; state: unknown }): Workbench {
  const state =
    typeof frame.state === "object" && frame.state !== null ? (frame.state as Partial<Workbench>) : {};
  return {
    ...emptyWorkbench(frame.sid, frame.epoch),
    ...state,
    sid: frame.sid,
    epoch: frame.epoch,
    seq: frame.seq,
  };
}
