import { Button } from "@/ui/Button";
import type { ApprovalView } from "@/workspace/state";
import { yesAndNo } from "./answers";

interface ChoicesProps {
  approval: ApprovalView;
  onAnswer: (answer: string) => void;
}

/** One button for each choice, with the key that takes it. */
export function Choices({ approval, onAnswer }: ChoicesProps) {
  const { yes, no } = yesAndNo(approval.choices);
  return (
    <div className="mt-2.5 flex flex-wrap gap-2">
      {approval.choices.map((choice, index) => {
        const key = choice === yes ? "Y" : choice === no ? "N" : index < 9 ? String(index + 1) : null;
        return (
          <Button
            key={choice}
            look={choice === yes ? "primary" : "plain"}
            className="max-w-full"
            data-testid="approval-choice"
            onClick={() => onAnswer(choice)}
          >
            <span className="truncate first-letter:uppercase">{choice}</span>
            {key && (
              <kbd className="rounded-sm border border-current px-1 font-mono text-2xs opacity-60 pointer-coarse:hidden">
                {key}
              </kbd>
            )}
          </Button>
        );
      })}
    </div>
  );
}
