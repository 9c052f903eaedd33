import { live } from "@/app";
import { limitsOf } from "@/budget/inForce";
import { LimitsForm } from "@/budget/LimitsForm";
import type { Limits } from "@/generated/events";
import { Button } from "@/ui/Button";
import type { ApprovalView, TurnView } from "@/workspace/state";
import { yesAndNo } from "./answers";
import { Choices } from "./Choices";

interface AtLimitProps {
  turn: TurnView;
  approval: ApprovalView;
  onAnswer: (answer: string) => void;
}

/** A limit is reached: new limits first, then the answer that lets it go on. */
export function AtLimit({ turn, approval, onAnswer }: AtLimitProps) {
  const { yes, no } = yesAndNo(approval.choices);
  const go = async (limits: Limits) => {
    const sid = live.session;
    if (!sid || !yes) return;
    const set = Object.keys(limits).length > 0;
    const ack = set ? await live.command(sid, { op: "budget.set", args: { turn: turn.id, limits } }) : null;
    if (!ack || ack.ok) onAnswer(yes);
  };
  if (!yes || !no) return <Choices approval={approval} onAnswer={onAnswer} />;
  return (
    <div className="mt-3">
      <LimitsForm
        label="Limits to go on with"
        limits={limitsOf(turn)}
        reached={approval.unit}
        must
        submit="Raise and continue"
        always
        onSubmit={(limits) => void go(limits)}
      >
        <Button onClick={() => onAnswer(no)}>Accept partial</Button>
      </LimitsForm>
    </div>
  );
}
