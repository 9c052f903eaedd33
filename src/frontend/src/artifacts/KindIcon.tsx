import { Braces, ChartNoAxesColumn, Code, File, FileText, Globe, Table } from "lucide-react";

const TEXT = /^text\/|json$|xml$|yaml$|javascript$/;

export type Kind = "image" | "table" | "markdown" | "json" | "html" | "text" | "binary";

/** What a media type is drawn as. SVG is an image: in an <img> it can run nothing. */
export function kindOf(media: string, name = ""): Kind {
  const type = media.split(";")[0]?.trim().toLowerCase() ?? "";
  if (type.startsWith("image/")) return "image";
  if (type === "text/csv" || type === "text/tab-separated-values" || /\.(csv|tsv)$/i.test(name))
    return "table";
  if (type === "text/markdown" || /\.md$/i.test(name)) return "markdown";
  if (type === "application/json" || type.endsWith("+json")) return "json";
  if (type === "text/html" || type === "application/xhtml+xml") return "html";
  return TEXT.test(type) ? "text" : "binary";
}

export const KIND_WORDS: Record<Kind, string> = {
  image: "Image",
  table: "Table",
  markdown: "Markdown",
  json: "JSON",
  html: "Page",
  text: "Text",
  binary: "File",
};

const ICONS: Record<Kind, typeof File> = {
  image: ChartNoAxesColumn,
  table: Table,
  markdown: FileText,
  json: Braces,
  html: Globe,
  text: Code,
  binary: File,
};

export function KindIcon({ kind, name, size = 14 }: { kind: string; name?: string; size?: number }) {
  const Icon = ICONS[kindOf(kind, name)];
  return <Icon size={size} className="shrink-0 text-accent" aria-hidden="true" />;
}
