import { Check, Copy } from "lucide-react";
import { useEffect, useState } from "react";
import { IconButton } from "./Button";

/** Copies and says so for a moment. */
export function CopyButton({ text, label = "Copy" }: { text: string | (() => string); label?: string }) {
  const [done, setDone] = useState(false);
  useEffect(() => {
    if (!done) return;
    const timer = setTimeout(() => setDone(false), 1_400);
    return () => clearTimeout(timer);
  }, [done]);
  const copy = async () => {
    await navigator.clipboard.writeText(typeof text === "function" ? text() : text);
    setDone(true);
  };
  return (
    <IconButton label={done ? "Copied" : label} onClick={copy} className="size-6">
      {done ? (
        <Check size={13} className="text-ok" aria-hidden="true" />
      ) : (
        <Copy size={13} aria-hidden="true" />
      )}
    </IconButton>
  );
}
