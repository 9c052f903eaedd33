import { useEffect, useRef, useState } from "react";
import { inputLook } from "@/ui/Field";

/** Inline rename: Enter or leaving saves, Escape gives back null. */
export function TitleInput({ title, onDone }: { title: string; onDone: (title: string | null) => void }) {
  const [text, setText] = useState(title);
  const field = useRef<HTMLInputElement>(null);
  const done = useRef(false);
  useEffect(() => field.current?.select(), []);
  const finish = (value: string | null) => {
    if (done.current) return;
    done.current = true;
    const clean = value?.trim();
    onDone(clean && clean !== title ? clean : null);
  };
  return (
    <input
      ref={field}
      aria-label="Session title"
      className={inputLook}
      value={text}
      maxLength={200}
      onChange={(event) => setText(event.target.value)}
      onBlur={() => finish(text)}
      onKeyDown={(event) => {
        if (event.key === "Enter") finish(text);
        if (event.key === "Escape") finish(null);
      }}
    />
  );
}
