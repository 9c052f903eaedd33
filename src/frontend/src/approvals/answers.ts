import type { ApprovalKind } from "@/generated/events";

export const KINDS: Record<ApprovalKind, string> = {
  question: "Question",
  tool: "Permission for a tool",
  host: "Permission for a host",
  cost: "Permission for a cost",
  depth: "Permission to go deeper",
  limit: "A limit is reached",
};

const YES = /^(yes|y|allow|approve|ok|raise|continue|go on)\b/i;
const NO = /^(no|n|deny|refuse|reject|accept|finish|stop)\b/i;

/**
 * The choice that lets the run go on as it wants to, and the one that does not; null where the words do not tell. Of
 * several that let it the first one is meant (the policy puts "allow once" before "allow for this turn").
 */
export function yesAndNo(choices: readonly string[]): { yes: string | null; no: string | null } {
  const yes = choices.find((choice) => YES.test(choice));
  const [no, ...others] = choices.filter((choice) => NO.test(choice));
  return yes && no && others.length === 0 ? { yes, no } : { yes: null, no: null };
}

/** What a key answers: Y and N where there are a yes and a no, 1 to 9 for a choice by its place. */
export function answerOfKey(key: string, choices: readonly string[]): string | null {
  const { yes, no } = yesAndNo(choices);
  const letter = key.toLowerCase();
  if (letter === "y" && yes) return yes;
  if (letter === "n" && no) return no;
  return /^[1-9]$/.test(key) ? (choices[Number(key) - 1] ?? null) : null;
}
