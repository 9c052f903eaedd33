import { type KeyboardEvent, useRef } from "react";

interface EditorProps {
  label: string;
  value: string;
  onChange: (value: string) => void;
}

const INDENT = "    ";

/** A plain editor for a cell: Tab indents, Shift+Tab takes it back, Enter keeps the indent, Escape leaves the field. */
export function CodeEditor({ label, value, onChange }: EditorProps) {
  const field = useRef<HTMLTextAreaElement>(null);
  const insert = (text: string) => {
    // The way that keeps the browser's own undo.
    document.execCommand("insertText", false, text);
  };
  const onKey = (event: KeyboardEvent<HTMLTextAreaElement>) => {
    const element = event.currentTarget;
    const start = element.value.lastIndexOf("\n", element.selectionStart - 1) + 1;
    if (event.key === "Escape") {
      event.stopPropagation();
      element.blur();
    } else if (event.key === "Tab" && !event.shiftKey) {
      event.preventDefault();
      insert(INDENT);
    } else if (event.key === "Tab") {
      const lead = /^ {1,4}/.exec(element.value.slice(start))?.[0] ?? "";
      if (!lead) return;
      event.preventDefault();
      const at = element.selectionStart;
      element.setSelectionRange(start, start + lead.length);
      insert("");
      element.setSelectionRange(Math.max(start, at - lead.length), Math.max(start, at - lead.length));
    } else if (event.key === "Enter" && !event.ctrlKey && !event.metaKey) {
      const line = element.value.slice(start, element.selectionStart);
      const lead = /^ */.exec(line)?.[0] ?? "";
      event.preventDefault();
      insert(`\n${lead}${line.trimEnd().endsWith(":") ? INDENT : ""}`);
    }
  };
  const lines = value.split("\n").length;
  return (
    <div className="flex max-h-[46vh] overflow-auto rounded-md border border-line-strong bg-panel font-mono text-xs leading-[19px] focus-within:outline-2 focus-within:outline-accent">
      <pre
        aria-hidden="true"
        className="sticky left-0 h-max min-h-full shrink-0 border-r bg-sunken px-2 py-1.5 text-right text-muted select-none"
      >
        {Array.from({ length: lines }, (_, i) => i + 1).join("\n")}
      </pre>
      <textarea
        ref={field}
        aria-label={label}
        data-testid="code-editor"
        spellCheck={false}
        autoCapitalize="off"
        autoComplete="off"
        wrap="off"
        rows={Math.max(4, lines)}
        className="block min-w-0 flex-1 resize-none overflow-y-hidden bg-transparent px-2 py-1.5 outline-none"
        value={value}
        onChange={(event) => onChange(event.target.value)}
        onKeyDown={onKey}
      />
    </div>
  );
}
