import type { TurnDiff } from "../src/compare/shape";

export function diffOf(journals: Map<string, object>, left: string, right: string): TurnDiff | null;
