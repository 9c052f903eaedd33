import { Cpu, Link2, PanelRight, Workflow } from "lucide-react";
import { useState } from "react";
import { useStatus } from "@/api/queries";
import { BudgetMeter } from "@/budget/BudgetMeter";
import { IconButton } from "@/ui/Button";
import { Chip } from "@/ui/Chip";
import { pickTurn } from "@/workspace/select";
import { useWorkspace } from "@/workspace/store";
import { DemoChip } from "./DemoChip";
import { useSelection, useSession } from "./selection";
import { saveTitle } from "./sessions";
import { TitleInput } from "./TitleInput";
import { setInspector, toast, useUi } from "./ui";

function Title({ sid }: { sid: string }) {
  const title = useWorkspace((state) => state.bench?.title ?? "");
  const [editing, setEditing] = useState(false);
  if (editing) {
    return (
      <TitleInput
        title={title}
        onDone={(next) => {
          setEditing(false);
          if (next) void saveTitle(sid, next);
        }}
      />
    );
  }
  return (
    <h1 className="min-w-0">
      <button
        type="button"
        title="Rename this session"
        className="block max-w-full truncate rounded-md px-1.5 py-0.5 text-base font-semibold hover:bg-sunken"
        onClick={() => setEditing(true)}
      >
        {title || "Untitled"}
      </button>
    </h1>
  );
}

export function Header() {
  const sid = useSession();
  const bench = useWorkspace((state) => state.bench);
  const open = useUi((state) => state.inspectorOpen);
  const { data: status } = useStatus();
  const [{ turn: chosen }] = useSelection();
  const turn = pickTurn(bench, chosen);
  const model = turn?.model ?? status?.model ?? null;
  const copyLink = async () => {
    await navigator.clipboard.writeText(location.href);
    toast("Link copied");
  };
  return (
    <header
      data-chrome
      className="flex h-10 shrink-0 pointer-coarse:h-13 items-center gap-2 border-b bg-panel px-2"
    >
      <div className="min-w-0 flex-1">{sid && <Title sid={sid} />}</div>
      {turn && (
        <Chip className="max-lg:hidden" title="Mode and greatest depth of the recursion">
          <Workflow size={13} aria-hidden="true" />
          {turn.mode} · depth ≤ {turn.limits.depth ?? 2}
        </Chip>
      )}
      {model === "demo/search" || (!model && status?.demo) ? (
        <DemoChip />
      ) : (
        model && (
          <Chip className="max-w-44 max-sm:hidden" title={`Model: ${model}`}>
            <Cpu size={13} className="shrink-0" aria-hidden="true" />
            <span className="truncate">{model}</span>
          </Chip>
        )
      )}
      {turn && <BudgetMeter turn={turn} />}
      <IconButton label="Copy link to this view" className="max-sm:hidden" onClick={copyLink}>
        <Link2 size={15} aria-hidden="true" />
      </IconButton>
      <IconButton
        label={open ? "Close the inspector" : "Open the inspector"}
        aria-pressed={open}
        onClick={() => setInspector(!open)}
      >
        <PanelRight size={16} aria-hidden="true" />
      </IconButton>
    </header>
  );
}
