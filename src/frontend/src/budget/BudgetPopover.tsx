import { clsx } from "clsx";
import { SlidersHorizontal, Square } from "lucide-react";
import { useState } from "react";
import { live } from "@/app";
import type { Limits } from "@/generated/events";
import { stopActive } from "@/shell/keyboard";
import { toast } from "@/shell/ui";
import { Button } from "@/ui/Button";
import type { Opening } from "@/ui/layer";
import { RadixPopover } from "@/ui/RadixPopover";
import { useNow } from "@/ui/useNow";
import type { TurnView } from "@/workspace/state";
import { useWorkspace } from "@/workspace/store";
import { Bar, WORD } from "./Bar";
import type { BudgetLayerProps } from "./BudgetMeter";
import { limitsOf } from "./inForce";
import { LimitsForm } from "./LimitsForm";
import { level, type Meter, metersOf } from "./meters";
import { Spenders } from "./Spenders";

function Line({ meter }: { meter: Meter }) {
  return (
    <div>
      <div className="flex items-baseline justify-between gap-2 text-xs">
        <span>{meter.label}</span>
        <span className="text-right tabular">
          <span className={WORD[level(meter.fraction)]}>{meter.used}</span>{" "}
          <span className="text-muted">{meter.limit ? `of ${meter.limit}` : "no limit"}</span>
        </span>
      </div>
      {meter.fraction !== null && <Bar meter={meter} className="mt-1" />}
      {meter.forecast && (
        <p
          className={clsx("mt-0.5 text-right text-2xs tabular", meter.over ? "text-warn" : "text-muted")}
          title="If the runs still to come need as much as those that are done"
        >
          ≈ {meter.forecast} at finish{meter.over && ", more than the limit"}
        </p>
      )}
    </div>
  );
}

function Raise({ turn, onDone }: { turn: TurnView; onDone: () => void }) {
  const send = async (limits: Limits) => {
    const sid = useWorkspace.getState().bench?.sid;
    if (!sid) return;
    onDone();
    const { ok } = await live.command(sid, { op: "budget.set", args: { turn: turn.id, limits } });
    if (ok) toast("New limits are in force");
  };
  return (
    <div className="mt-3 border-t pt-2">
      <h3 className="mb-1.5 text-xs font-medium text-muted">Limits of this turn</h3>
      <LimitsForm
        label="Limits of this turn"
        limits={limitsOf(turn)}
        reached={turn.budget?.exhausted ?? null}
        submit="Set limits"
        onSubmit={(limits) => void send(limits)}
      />
    </div>
  );
}

function Details({ turn, close }: { turn: TurnView; close: () => void }) {
  const bench = useWorkspace((state) => state.bench);
  const running = turn.status === "running";
  const now = useNow(running, 1_000);
  const [raising, setRaising] = useState(false);
  if (!bench) return null;
  return (
    <>
      <h2 className="text-sm font-semibold">Budget of this turn</h2>
      <div className="mt-2 space-y-2.5">
        {metersOf(bench, turn, now).map((meter) => (
          <Line key={meter.unit} meter={meter} />
        ))}
      </div>
      {!raising && <Spenders turn={turn} close={close} />}
      {raising && <Raise turn={turn} onDone={close} />}
      {running && !raising && (
        <div className="mt-3 flex gap-2">
          <Button
            className="flex-1"
            data-testid="raise-limits"
            icon={<SlidersHorizontal size={13} aria-hidden="true" />}
            onClick={() => setRaising(true)}
          >
            Change limits
          </Button>
          <Button
            look="danger"
            className="flex-1"
            icon={<Square size={12} aria-hidden="true" />}
            onClick={() => {
              close();
              stopActive();
            }}
          >
            Stop now
          </Button>
        </div>
      )}
    </>
  );
}

export function BudgetPopover({ turn, ...layer }: BudgetLayerProps & Opening) {
  return (
    <RadixPopover {...layer} label="Budget of this turn" align="end" width={336}>
      {(close) => <Details turn={turn} close={close} />}
    </RadixPopover>
  );
}
