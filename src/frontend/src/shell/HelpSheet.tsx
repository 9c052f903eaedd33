import { Dialog } from "@/ui/Dialog";
import { SHORTCUTS } from "./shortcuts";
import { useUi } from "./ui";

export default function HelpSheet() {
  return (
    <Dialog open onClose={() => useUi.setState({ helpOpen: false })} title="Keyboard" width={460}>
      <dl className="overflow-y-auto px-4 py-3">
        {SHORTCUTS.map(([keys, what]) => (
          <div key={keys} className="flex items-center justify-between gap-4 py-1">
            <dt className="text-sm">{what}</dt>
            <dd className="flex gap-1">
              {keys.split(" ").map((key) => (
                <kbd
                  key={key}
                  className="rounded-sm border border-line bg-sunken px-1.5 font-mono text-2xs text-muted"
                >
                  {key}
                </kbd>
              ))}
            </dd>
          </div>
        ))}
      </dl>
    </Dialog>
  );
}
