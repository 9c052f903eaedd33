import type { Limits } from "@/generated/events";

/** Whether something was typed that cannot be a limit: then nothing is sent, as an empty field means "no limit". */
export function unsound(limits: Limits): boolean {
  return Object.values(limits).some(Number.isNaN);
}
