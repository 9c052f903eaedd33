import { createCssVariablesTheme, createHighlighterCore, type HighlighterCore } from "shiki/core";
import { createJavaScriptRegexEngine } from "shiki/engine/javascript";
import python from "shiki/langs/python.mjs";

export interface Piece {
  text: string;
  color?: string;
}

const theme = createCssVariablesTheme({ name: "fleet", variablePrefix: "--shiki-" });
let core: Promise<HighlighterCore> | null = null;
const cache = new Map<string, Piece[][]>();
const KEPT = 300;

/** Python in coloured pieces per line. Colours are variables of the page's theme, so a theme change costs nothing. */
export async function highlight(code: string): Promise<Piece[][]> {
  const known = cache.get(code);
  if (known) return known;
  core ??= createHighlighterCore({ themes: [theme], langs: [python], engine: createJavaScriptRegexEngine() });
  const lines = (await core)
    .codeToTokensBase(code, { lang: "python", theme: "fleet", tokenizeTimeLimit: 0 })
    .map((tokens) =>
      tokens.map(({ content, color }) => (color ? { text: content, color } : { text: content })),
    );
  if (cache.size >= KEPT) cache.clear();
  cache.set(code, lines);
  return lines;
}
