import type { ReactNode } from "react";

export function Section({ title, note, children }: { title: string; note?: ReactNode; children: ReactNode }) {
  return (
    <section className="mb-4" aria-label={title}>
      <h3 className="mb-1 flex items-baseline justify-between gap-2 text-xs font-medium text-muted">
        {title}
        {note && <span className="font-normal">{note}</span>}
      </h3>
      {children}
    </section>
  );
}

export function Facts({ rows }: { rows: [name: string, value: ReactNode][] }) {
  return (
    <dl className="grid grid-cols-[max-content_minmax(0,1fr)] gap-x-4 gap-y-1 text-xs">
      {rows.map(([name, value]) => (
        <div key={name} className="contents">
          <dt className="text-muted">{name}</dt>
          <dd className="min-w-0 [overflow-wrap:anywhere] tabular">{value}</dd>
        </div>
      ))}
    </dl>
  );
}
