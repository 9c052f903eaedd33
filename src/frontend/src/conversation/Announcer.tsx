import { useEffect, useRef, useState } from "react";
import { plural } from "@/workspace/format";
import { useWorkspace } from "@/workspace/store";

/** For screen readers: changes of state in words. The streaming text itself is never read out token by token. */
export function Announcer() {
  const key = useWorkspace((state) => {
    const turn = state.bench?.turns[state.bench.turn_order.at(-1) ?? ""];
    return turn ? `${turn.id}/${turn.status}` : "";
  });
  const connection = useWorkspace((state) => state.connection);
  const [words, setWords] = useState("");
  const before = useRef("");
  useEffect(() => {
    const { bench } = useWorkspace.getState();
    const turn = bench?.turns[bench.turn_order.at(-1) ?? ""];
    if (!turn) return;
    const [was] = before.current.split("/");
    const news = before.current !== "" && was === turn.id;
    before.current = key;
    if (turn.status === "running") setWords("The turn is running.");
    else if (news) {
      const length = turn.answer?.split(/\s+/).length ?? 0;
      setWords(
        turn.status === "ok"
          ? `Answer complete, ${plural(length, "word")}.`
          : `The turn ended: ${turn.status}.`,
      );
    }
  }, [key]);
  useEffect(() => {
    if (connection === "reconnecting") setWords("Connection lost, reconnecting.");
  }, [connection]);
  return (
    <div role="status" aria-live="polite" aria-label="Progress" className="sr-only" data-testid="announcer">
      {words}
    </div>
  );
}
