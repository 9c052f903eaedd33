export interface RecordedJournal {
  events: unknown[];
}
type Play = (player: unknown) => Promise<void>;
export const search: Play;
export const failing: Play;
export const limited: Play;
export function wide(player: unknown, options?: { runs?: number; open?: boolean }): Promise<void>;
export function recorded(sid: string, title: string, ago: number, play: Play): Promise<RecordedJournal>;
