import { explain } from "@/api/client";
import { useModels, useStatus } from "@/api/queries";
import { DemoChip } from "@/shell/DemoChip";
import { ModelForm } from "./ModelForm";

export function ModelsPage() {
  const { data, error } = useModels();
  const { data: status } = useStatus();
  return (
    <main id="main" tabIndex={-1} aria-label="Settings" className="min-h-0 min-w-0 flex-1 overflow-y-auto">
      <div className="mx-auto max-w-[680px] px-5 py-6">
        <div className="flex items-center gap-3">
          <h1 className="text-xl font-semibold">Models</h1>
          {status?.demo && <DemoChip />}
        </div>
        <p className="mt-0.5 text-muted">What answers questions, and where it is reached.</p>
        {error && (
          <p role="alert" className="mt-4 rounded-md bg-err-soft p-3 text-err">
            {explain(error).message} {explain(error).hint}
          </p>
        )}
        {data && (
          <ModelForm
            key={JSON.stringify([data.model, data.sub_model, data.api_base, data.key.ends])}
            saved={data}
          />
        )}
        {status && status.warnings.length > 0 && (
          <section aria-label="Warnings" className="mt-6">
            <h2 className="text-sm font-semibold">Warnings</h2>
            <ul className="mt-1 list-disc pl-5 text-sm text-warn">
              {status.warnings.map((warning) => (
                <li key={warning}>{warning}</li>
              ))}
            </ul>
          </section>
        )}
      </div>
    </main>
  );
}
