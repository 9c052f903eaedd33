import { lazy, Suspense } from "react";
import type { Workbench } from "@/workspace/state";
import { useCancel } from "./runKeys";

const CancelBar = lazy(() => import("./CancelBar"));

/** The place under the rows where a cancellation is confirmed. */
export function Cancel({ bench }: { bench: Workbench }) {
  const run = useCancel((state) => state.run);
  return <Suspense>{run && <CancelBar bench={bench} />}</Suspense>;
}
