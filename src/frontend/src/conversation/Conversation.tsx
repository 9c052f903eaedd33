import { useVirtualizer } from "@tanstack/react-virtual";
import { ArrowDown } from "lucide-react";
import { lazy, Suspense, useLayoutEffect, useRef, useState } from "react";
import type { OutboxItem } from "@/transport/outbox";
import { Button } from "@/ui/Button";
import { useWorkspace } from "@/workspace/store";
import { Announcer } from "./Announcer";
import { Pending } from "./Pending";
import { Turn } from "./Turn";

const Lineage = lazy(() => import("@/fork/Lineage"));

const NEAR = 48;

type Start = OutboxItem & { op: "turn.start" };

/** The transcript. Only what is near the screen is mounted; it follows the end only while the reader is there. */
export function Conversation() {
  const bench = useWorkspace((state) => state.bench);
  const outbox = useWorkspace((state) => state.outbox);
  const caughtUp = useWorkspace((state) => state.caughtUp);
  const scroller = useRef<HTMLDivElement>(null);
  const following = useRef(true);
  const [away, setAway] = useState(false);
  const order = bench?.turn_order ?? [];
  const waiting = outbox.filter((item): item is Start => item.op === "turn.start" && item.sid === bench?.sid);
  const rows = useVirtualizer({
    count: order.length,
    getScrollElement: () => scroller.current,
    estimateSize: () => 420,
    getItemKey: (index) => order[index] ?? index,
    overscan: 3,
  });
  const height = rows.getTotalSize();
  const pending = waiting.length;
  // Whatever was just asked for, be it a question, a resumption or a replay, is what one wants to see.
  const turns = order.length;
  useLayoutEffect(() => {
    if (pending || turns) following.current = true;
  }, [pending, turns]);
  useLayoutEffect(() => {
    const element = scroller.current;
    if (element && following.current) element.scrollTop = element.scrollHeight;
    void height;
    void pending;
  }, [height, pending]);
  const onScroll = () => {
    const element = scroller.current;
    if (!element) return;
    const gap = element.scrollHeight - element.scrollTop - element.clientHeight;
    following.current = gap < NEAR;
    setAway(gap > 240);
  };
  const toEnd = () => {
    following.current = true;
    scroller.current?.scrollTo({ top: scroller.current.scrollHeight });
  };
  return (
    <div className="relative min-h-0 flex-1">
      <div
        ref={scroller}
        onScroll={onScroll}
        tabIndex={0}
        role="region"
        aria-label="Messages"
        className="h-full overflow-y-auto [overflow-anchor:none]"
      >
        {!caughtUp && order.length === 0 && <Loading />}
        {caughtUp && order.length === 0 && pending === 0 && (
          <p className="px-4 pt-[22vh] text-center text-muted">
            This session has no question yet. Ask one below.
          </p>
        )}
        {/* Its place is there before its code is, so that nothing moves under a pointer when it comes. */}
        {bench?.forked_from && (
          <div className="h-[34px]">
            <Suspense>
              <Lineage from={bench.forked_from} />
            </Suspense>
          </div>
        )}
        <div className="relative w-full" style={{ height }}>
          {rows.getVirtualItems().map((item) => {
            const turn = bench?.turns[order[item.index] ?? ""];
            if (!turn) return null;
            return (
              <div
                key={item.key}
                data-index={item.index}
                ref={rows.measureElement}
                className="absolute inset-x-0 top-0"
                style={{ transform: `translateY(${item.start}px)` }}
              >
                <Turn turn={turn} />
              </div>
            );
          })}
        </div>
        {waiting.map((item) => (
          <Pending key={item.id} item={item} />
        ))}
        <div className="h-6" />
      </div>
      {away && (
        <Button
          className="absolute bottom-3 left-1/2 -translate-x-1/2 shadow-float"
          icon={<ArrowDown size={13} aria-hidden="true" />}
          onClick={toEnd}
        >
          Newest
        </Button>
      )}
      <Announcer />
    </div>
  );
}

function Loading() {
  return (
    <div className="mx-auto w-full max-w-[760px] space-y-3 px-4 pt-5" role="status">
      <span className="sr-only">Loading the session</span>
      <div className="h-16 rounded-lg bg-sunken" />
      <div className="h-4 w-2/3 rounded-md bg-sunken" />
      <div className="h-4 w-1/2 rounded-md bg-sunken" />
    </div>
  );
}
