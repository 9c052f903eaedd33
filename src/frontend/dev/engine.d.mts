export function renewals(player: unknown): Promise<void>;
