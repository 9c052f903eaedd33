import type { ApprovalView, Workbench } from "@/workspace/state";

export function openApprovals(bench: Workbench | null): ApprovalView[] {
  if (!bench) return [];
  return Object.values(bench.approvals).filter((approval) => approval.status === "open");
}

export function approvalsOf(bench: Workbench, turn: string): ApprovalView[] {
  return Object.values(bench.approvals).filter((approval) => approval.turn === turn);
}
