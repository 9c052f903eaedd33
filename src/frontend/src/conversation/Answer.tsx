import { lazy, memo, Suspense } from "react";
import type { Citation } from "@/generated/events";

const Markdown = lazy(() => import("./Markdown"));

interface AnswerProps {
  text: string;
  streaming: boolean;
  citations: readonly Citation[];
  onCite: (index: number) => void;
}

export const Answer = memo(function Answer(props: AnswerProps) {
  return (
    <div
      role="group"
      className="prose"
      aria-label="Answer"
      data-testid="answer"
      data-streaming={props.streaming}
      aria-busy={props.streaming}
    >
      <Suspense fallback={<p className="whitespace-pre-wrap">{props.text}</p>}>
        <Markdown {...props} />
      </Suspense>
    </div>
  );
});
