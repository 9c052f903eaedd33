const FIRST_MS = 250;
const LONGEST_MS = 8_000;

/** Full-jitter exponential back-off: somewhere between 0 and 0.25 s, 0.5 s ... 8 s. It never gives up. */
export function backoff(attempt: number, random: () => number = Math.random): number {
  const ceiling = Math.min(LONGEST_MS, FIRST_MS * 2 ** Math.min(attempt, 10));
  return Math.round(50 + random() * ceiling);
}
