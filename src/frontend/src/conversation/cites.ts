import type { Citation } from "@/generated/events";

interface Node {
  type: string;
  value?: string;
  url?: string;
  children?: Node[];
}

const PLACE = /[^\s`"'()[\]{}<>|,;*]+:\d+/g;

export function placeOf(citation: Citation): string {
  return `${citation.path}:${citation.line}`;
}

function pieces(text: string, known: Map<string, number>): Node[] {
  const out: Node[] = [];
  let from = 0;
  for (const match of text.matchAll(PLACE)) {
    const index = known.get(match[0]);
    if (index === undefined) continue;
    if (match.index > from) out.push({ type: "text", value: text.slice(from, match.index) });
    out.push({ type: "link", url: `#cite-${index}`, children: [{ type: "text", value: match[0] }] });
    from = match.index + match[0].length;
  }
  if (from === 0) return [];
  if (from < text.length) out.push({ type: "text", value: text.slice(from) });
  return out;
}

function walk(node: Node, known: Map<string, number>): void {
  const children = node.children;
  if (!children || node.type === "link") return;
  node.children = children.flatMap((child) => {
    if ((child.type === "text" || child.type === "inlineCode") && child.value) {
      const parts = pieces(child.value, known);
      if (parts.length) return parts;
    }
    walk(child, known);
    return [child];
  });
}

/** A remark plugin: every `path:line` that the turn's citations know becomes a link to its source. */
export function citeLinks(citations: readonly Citation[]) {
  const known = new Map(citations.map((citation, index) => [placeOf(citation), index]));
  return () => (tree: unknown) => {
    if (known.size) walk(tree as Node, known);
  };
}
