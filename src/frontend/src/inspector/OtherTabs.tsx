import type { ComponentType } from "react";
import type { Tab } from "@/shell/selection";
import { ThoughtsTab } from "@/thoughts/ThoughtsTab";
import { OutputTab } from "./OutputTab";
import { OverviewTab } from "./OverviewTab";
import { PromptTab } from "./PromptTab";
import { RawTab } from "./RawTab";
import type { RunProps } from "./RunDetail";
import { UsageTab } from "./UsageTab";

const BODY: Record<Exclude<Tab, "cells">, ComponentType<RunProps>> = {
  overview: OverviewTab,
  thoughts: ThoughtsTab,
  prompt: PromptTab,
  output: OutputTab,
  usage: UsageTab,
  raw: RawTab,
};

/** Everything but the cells: fetched when first asked for. */
export default function OtherTabs({ tab, ...props }: RunProps & { tab: Exclude<Tab, "cells"> }) {
  const Body = BODY[tab];
  return <Body {...props} />;
}
