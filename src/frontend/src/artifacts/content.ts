import { BASE, readError } from "@/api/client";

/** Text is drawn up to here; the rest is in the download. */
export const MOST_BYTES = 1_000_000;

export const contentUrl = (id: string) => `${BASE}/artifacts/${encodeURIComponent(id)}/content`;
export const viewUrl = (id: string) => `${BASE}/artifacts/${encodeURIComponent(id)}/view`;

/** The beginning of an artifact as text; `whole` tells whether that is all. */
export async function readText(id: string): Promise<{ text: string; whole: boolean }> {
  const response = await fetch(contentUrl(id), { credentials: "same-origin" });
  if (!response.ok) throw await readError(response);
  const reader = response.body?.getReader();
  if (!reader) return { text: await response.text(), whole: true };
  const decoder = new TextDecoder();
  let text = "";
  let size = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return { text: text + decoder.decode(), whole: true };
    size += value.byteLength;
    text += decoder.decode(value, { stream: true });
    if (size >= MOST_BYTES) {
      await reader.cancel();
      return { text, whole: false };
    }
  }
}
