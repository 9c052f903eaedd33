import { useNavigate } from "@tanstack/react-router";
import { Command } from "cmdk";
import {
  ArrowUpRight,
  FileText,
  Gauge,
  GitCompareArrows,
  GitFork,
  Keyboard,
  Link2,
  ListTree,
  MessageSquare,
  Moon,
  PanelLeft,
  PanelRight,
  Play,
  Plus,
  Repeat2,
  Settings,
  Square,
} from "lucide-react";
import { Dialog as Radix } from "radix-ui";
import type { ReactNode } from "react";
import { useSessions } from "@/api/queries";
import { stopActive } from "@/shell/keyboard";
import { useSelection, VIEWS } from "@/shell/selection";
import { nextTheme } from "@/shell/theme";
import { isMac, setInspector, toast, toggleList, useUi } from "@/shell/ui";
import { runName } from "@/tree/TreeRow";
import { resumes } from "@/turns/resumes";
import { showRaise } from "@/turns/showRaise";
import { useTurnActions } from "@/turns/useTurnActions";
import { pickTurn } from "@/workspace/select";
import { useWorkspace } from "@/workspace/store";

const MOD = isMac() ? "⌘" : "Ctrl ";
const RUNS = 300;
const close = () => useUi.setState({ paletteOpen: false });

interface ItemProps {
  icon: ReactNode;
  words: string;
  hint?: string;
  /** Told apart where two have the same words. */
  id?: string;
  run: () => void;
}

function Item({ icon, words, hint, id, run }: ItemProps) {
  return (
    <Command.Item
      value={id ? `${words} ${id}` : words}
      onSelect={() => {
        close();
        // The layer gives the focus back first.
        setTimeout(run);
      }}
      className="flex h-9 cursor-pointer items-center gap-2.5 rounded-md px-2.5 text-sm data-[selected=true]:bg-accent-soft pointer-coarse:h-11"
    >
      <span className="shrink-0 text-muted">{icon}</span>
      <span className="min-w-0 flex-1 truncate">{words}</span>
      {hint && <kbd className="shrink-0 font-mono text-2xs text-muted">{hint}</kbd>}
    </Command.Item>
  );
}

const VIEW_WORDS = {
  tree: "the run tree",
  timeline: "the timeline",
  context: "what was read",
  artifacts: "files",
  memory: "memory",
} as const;

function TurnItems() {
  const bench = useWorkspace((state) => state.bench);
  const [{ turn: chosen }, select] = useSelection();
  const actions = useTurnActions();
  const turn = pickTurn(bench, chosen);
  if (!bench || !turn) return null;
  const running = turn.status === "running";
  const how = resumes(bench, turn);
  return (
    <Command.Group heading="This turn">
      {running && (
        <Item icon={<Square size={14} />} words="Stop the turn" hint={`${MOD}.`} run={stopActive} />
      )}
      {how === "raised" && (
        <Item
          icon={<Gauge size={14} />}
          words="Raise the limit and continue the turn…"
          run={() => {
            select({ turn: turn.id });
            showRaise(turn.id);
          }}
        />
      )}
      {how === "now" && (
        <Item icon={<Play size={14} />} words="Resume the turn" run={() => void actions.resume(turn)} />
      )}
      {!running && (
        <Item
          icon={<Repeat2 size={14} />}
          words="Replay the turn from the journal"
          run={() => void actions.replay(turn)}
        />
      )}
      <Item icon={<GitFork size={14} />} words="Fork the turn…" run={() => actions.openFork(turn.id)} />
      <Item
        icon={<GitCompareArrows size={14} />}
        words="Compare the turn with…"
        run={() => actions.openCompare(turn.id)}
      />
      {VIEWS.map((view) => (
        <Item
          key={view}
          icon={<ListTree size={14} />}
          words={`Show ${VIEW_WORDS[view]}`}
          run={() => {
            select({ view: view === "tree" ? undefined : view });
            setInspector(true);
          }}
        />
      ))}
    </Command.Group>
  );
}

function Runs() {
  const bench = useWorkspace((state) => state.bench);
  const [{ turn: chosen }, select] = useSelection();
  const turn = pickTurn(bench, chosen);
  if (!bench || !turn || turn.runs.length < 2) return null;
  return (
    <Command.Group heading="Runs">
      {turn.runs.slice(0, RUNS).map((id) => {
        const run = bench.runs[id];
        if (!run) return null;
        return (
          <Item
            key={id}
            id={id}
            icon={<FileText size={14} />}
            words={runName(run).slice(0, 140)}
            run={() => {
              select({ turn: turn.id, run: id, cell: undefined, view: undefined });
              setInspector(true);
            }}
          />
        );
      })}
    </Command.Group>
  );
}

function Sessions() {
  const { data } = useSessions();
  const navigate = useNavigate();
  if (!data?.length) return null;
  return (
    <Command.Group heading="Sessions">
      {data.map((row) => (
        <Item
          key={row.id}
          id={row.id}
          icon={<MessageSquare size={14} />}
          words={row.title || "Untitled"}
          run={() => void navigate({ to: "/s/$sid", params: { sid: row.id }, search: {} })}
        />
      ))}
    </Command.Group>
  );
}

function Always() {
  const navigate = useNavigate();
  const copy = async () => {
    await navigator.clipboard.writeText(location.href);
    toast("Link copied");
  };
  return (
    <Command.Group heading="Workspace">
      <Item
        icon={<Plus size={14} />}
        words="New session"
        hint="Alt N"
        run={() => void navigate({ to: "/" })}
      />
      <Item
        icon={<ArrowUpRight size={14} />}
        words="Go to the question field"
        hint="/"
        run={() => document.getElementById("composer")?.focus()}
      />
      <Item icon={<PanelLeft size={14} />} words="Session list" hint={`${MOD}B`} run={toggleList} />
      <Item
        icon={<PanelRight size={14} />}
        words="Inspector"
        hint={`${MOD}J`}
        run={() => setInspector(!useUi.getState().inspectorOpen)}
      />
      <Item icon={<Moon size={14} />} words="Change the theme" run={nextTheme} />
      <Item icon={<Link2 size={14} />} words="Copy link to this view" run={() => void copy()} />
      <Item
        icon={<Settings size={14} />}
        words="Model settings"
        hint="g ,"
        run={() => void navigate({ to: "/settings/models" })}
      />
      <Item
        icon={<Keyboard size={14} />}
        words="Keyboard shortcuts"
        hint="?"
        run={() => useUi.setState({ helpOpen: true })}
      />
    </Command.Group>
  );
}

const groups =
  "[&_[cmdk-group-heading]]:px-2.5 [&_[cmdk-group-heading]]:pt-2 [&_[cmdk-group-heading]]:pb-1 [&_[cmdk-group-heading]]:text-2xs [&_[cmdk-group-heading]]:font-medium [&_[cmdk-group-heading]]:text-muted";

/** Every action, session and run by its words. */
export default function Palette() {
  return (
    <Radix.Root open onOpenChange={(open) => !open && close()}>
      <Radix.Portal>
        <Radix.Overlay className="fixed inset-0 z-40 bg-[oklch(15%_0.02_264/0.45)]" />
        <Radix.Content
          aria-describedby={undefined}
          data-testid="palette"
          className="fixed top-[12vh] left-1/2 z-50 w-[580px] max-w-[calc(100vw-16px)] -translate-x-1/2 overflow-hidden rounded-lg border border-line bg-raised shadow-float"
        >
          <Radix.Title className="sr-only">Everything that can be done</Radix.Title>
          <Command label="Commands" loop className={groups}>
            <Command.Input
              placeholder="What do you want to do?"
              className="h-11 w-full border-b bg-transparent px-4 text-base outline-none"
            />
            <Command.List
              tabIndex={0}
              className="max-h-[56vh] overflow-y-auto p-1.5 -outline-offset-2"
              aria-label="Actions, sessions and runs"
            >
              <Command.Empty className="px-3 py-6 text-center text-sm text-muted">
                Nothing by these words.
              </Command.Empty>
              <TurnItems />
              <Always />
              <Sessions />
              <Runs />
            </Command.List>
          </Command>
        </Radix.Content>
      </Radix.Portal>
    </Radix.Root>
  );
}
