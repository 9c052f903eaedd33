import { useVirtualizer } from "@tanstack/react-virtual";
import { clsx } from "clsx";
import { ArrowDown, ArrowUp } from "lucide-react";
import { useMemo, useRef, useState } from "react";
import { number, plural } from "@/workspace/format";
import { isNumeric, type Order, parseTable, sorted } from "./csv";

const MOST = 5_000;

/** A table of a text: sorted by a click on a column, its rows drawn where one looks. */
export function TableView({ text, whole }: { text: string; whole: boolean }) {
  const rows = useMemo(() => parseTable(text, MOST + 1), [text]);
  const [order, setOrder] = useState<Order>(null);
  const [head = [], ...body] = rows;
  // biome-ignore lint/correctness/useExhaustiveDependencies: body is part of rows
  const shown = useMemo(() => sorted(body, order), [rows, order]);
  // biome-ignore lint/correctness/useExhaustiveDependencies: body is part of rows
  const numeric = useMemo(() => head.map((_, column) => isNumeric(body, column)), [rows]);
  const scroller = useRef<HTMLDivElement>(null);
  const virtual = useVirtualizer({
    count: shown.length,
    getScrollElement: () => scroller.current,
    estimateSize: () => 26,
    overscan: 12,
  });
  const items = virtual.getVirtualItems();
  const above = items[0]?.start ?? 0;
  const under = virtual.getTotalSize() - (items.at(-1)?.end ?? 0);
  const next = (column: number) =>
    setOrder((now) =>
      now?.column !== column ? { column, down: false } : now.down ? null : { column, down: true },
    );
  return (
    <>
      <div
        ref={scroller}
        tabIndex={0}
        role="group"
        aria-label="Table"
        className="max-h-[60vh] overflow-auto rounded-md border border-line"
        data-testid="artifact-table"
      >
        <table className="w-max min-w-full border-separate border-spacing-0 text-xs tabular">
          <thead>
            <tr>
              {head.map((name, column) => (
                <th
                  key={column}
                  scope="col"
                  aria-sort={order?.column === column ? (order.down ? "descending" : "ascending") : undefined}
                  className="sticky top-0 border-b bg-sunken p-0 text-left font-medium"
                >
                  <button
                    type="button"
                    className={clsx(
                      "flex h-7 w-full items-center gap-1 px-2 hover:bg-line pointer-coarse:h-10",
                      numeric[column] && "justify-end",
                    )}
                    onClick={() => next(column)}
                  >
                    {name ?? `column ${column + 1}`}
                    {order?.column === column &&
                      (order.down ? (
                        <ArrowDown size={11} aria-hidden="true" />
                      ) : (
                        <ArrowUp size={11} aria-hidden="true" />
                      ))}
                  </button>
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {above > 0 && (
              <tr>
                <td style={{ height: above }} colSpan={head.length} />
              </tr>
            )}
            {items.map((item) => (
              <tr key={item.key} className="hover:bg-sunken">
                {head.map((_, column) => {
                  const value = shown[item.index]?.[column] ?? null;
                  return (
                    <td
                      key={column}
                      className={clsx(
                        "h-[26px] max-w-72 truncate border-b px-2",
                        numeric[column] && "text-right",
                      )}
                      title={value ?? undefined}
                    >
                      {value === null ? <span className="text-2xs text-muted italic">none</span> : value}
                    </td>
                  );
                })}
              </tr>
            ))}
            {under > 0 && (
              <tr>
                <td style={{ height: under }} colSpan={head.length} />
              </tr>
            )}
          </tbody>
        </table>
      </div>
      <p className="mt-1 text-2xs text-muted tabular">
        {plural(body.length, "row")}, {plural(head.length, "column")}
        {(!whole || body.length >= MOST) && `; the first ${number(body.length)} of more`}
      </p>
    </>
  );
}
