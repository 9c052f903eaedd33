import { useNavigate, useParams, useSearch } from "@tanstack/react-router";
import { useCallback, useMemo } from "react";

export const TABS = ["overview", "cells", "thoughts", "prompt", "output", "usage", "raw"] as const;
export type Tab = (typeof TABS)[number];

/** What the inspector shows: the runs as tree or over time, or what belongs to the turn or the session. */
export const VIEWS = ["tree", "timeline", "context", "artifacts", "memory"] as const;
export type View = (typeof VIEWS)[number];

/** What is selected, all of it in the URL: reload, back and a copied link restore the exact view. */
export interface Selection {
  turn?: string;
  run?: string;
  cell?: string;
  tab?: Tab;
  view?: View;
  artifact?: string;
  /** A place in a context: the start of the span whose lines are shown. */
  span?: string;
  /** A cited place: index into the turn's citations. */
  cite?: number;
}

export function parseSelection(search: Record<string, unknown>): Selection {
  const word = (value: unknown) => (typeof value === "string" && value ? value : undefined);
  const tab = TABS.find((name) => name === search.tab);
  const cite = Number(search.cite);
  return {
    turn: word(search.turn),
    run: word(search.run),
    cell: word(search.cell),
    tab,
    view: VIEWS.find((name) => name === search.view),
    artifact: word(search.artifact),
    span: word(search.span),
    cite: search.cite !== undefined && Number.isInteger(cite) && cite >= 0 ? cite : undefined,
  };
}

export function useSession(): string | null {
  const params = useParams({ strict: false });
  return params.sid ?? null;
}

export function useSelection(): [Selection, (change: Selection) => void] {
  const search = useSearch({ strict: false }) as Selection;
  const sid = useSession();
  const navigate = useNavigate();
  const change = useCallback(
    (next: Selection) => {
      if (!sid) return;
      void navigate({
        to: "/s/$sid",
        params: { sid },
        search: (before: Selection) => ({ ...before, ...next }),
        replace: next.run === undefined && next.cite === undefined && next.span === undefined,
      });
    },
    [navigate, sid],
  );
  return useMemo(() => [search, change], [search, change]);
}
