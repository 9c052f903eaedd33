import { Component, type ComponentProps, memo, type ReactNode, useMemo, useRef } from "react";
import ReactMarkdown, { type Components } from "react-markdown";

import type { Citation } from "@/generated/events";
import { type Blocks, closeOpen, NO_BLOCKS, split, tooDeep } from "./blocks";
import { citeLinks } from "./cites";
import { readGfm } from "./gfm";

interface MarkdownProps {
  text: string;
  streaming: boolean;
  citations: readonly Citation[];
  onCite: (index: number) => void;
}

function componentsFor(onCite: (index: number) => void): Components {
  return {
    a({ href, children }: ComponentProps<"a">) {
      const cite = /^#cite-(\d+)$/.exec(href ?? "");
      if (cite) {
        return (
          <button
            type="button"
            className="cite"
            data-testid="citation"
            onClick={() => onCite(Number(cite[1]))}
          >
            {children}
          </button>
        );
      }
      if (!href) return children; // of no kind that may be followed, such as javascript:
      return (
        <a href={href} target="_blank" rel="noopener noreferrer">
          {children}
        </a>
      );
    },
    table({ children }: ComponentProps<"table">) {
      return (
        <div className="table-scroll" tabIndex={0} role="group" aria-label="Table">
          <table>{children}</table>
        </div>
      );
    },
    pre({ children }: ComponentProps<"pre">) {
      return <pre tabIndex={0}>{children}</pre>;
    },
    // Pictures of other hosts are never loaded: their words stay.
    img: ({ alt }: ComponentProps<"img">) => <em>{alt || "picture"}</em>,
  };
}

const Block = memo(function Block(props: { text: string; components: Components }) {
  return (
    <ReactMarkdown remarkPlugins={[readGfm]} components={props.components}>
      {props.text}
    </ReactMarkdown>
  );
});

/** Characters; a book. Beyond it drawing takes longer than anybody waits. */
const LONGEST = 1_000_000;

const AsWritten = ({ text }: { text: string }) => (
  <p className="whitespace-pre-wrap" data-testid="plain">
    {text}
  </p>
);

/** What cannot be drawn stands as it was written: the rest of the page lives on. */
class Guarded extends Component<{ text: string; children: ReactNode }, { failed: boolean }> {
  override state = { failed: false };

  static getDerivedStateFromError() {
    return { failed: true };
  }

  override render() {
    return this.state.failed ? <AsWritten text={this.props.text} /> : this.props.children;
  }
}

export default function Markdown(props: MarkdownProps) {
  if (props.text.length > LONGEST || tooDeep(props.text)) return <AsWritten text={props.text} />;
  return (
    <Guarded key={String(props.streaming)} text={props.text}>
      <Drawn {...props} />
    </Guarded>
  );
}

/** While it streams: one memoised part per block. When it is done: once as a whole, with its citations. */
function Drawn({ text, streaming, citations, onCite }: MarkdownProps) {
  const last = useRef<Blocks>(NO_BLOCKS);
  const components = useMemo(() => componentsFor(onCite), [onCite]);
  const plugins = useMemo(() => [readGfm, citeLinks(citations)], [citations]);
  if (!streaming) {
    return (
      <div>
        <ReactMarkdown remarkPlugins={plugins} components={components}>
          {text}
        </ReactMarkdown>
      </div>
    );
  }
  last.current = split(text, last.current);
  const { parts } = last.current;
  return (
    <div>
      {parts.map((part, index) => (
        <Block
          key={index}
          text={index === parts.length - 1 ? closeOpen(part) : part}
          components={components}
        />
      ))}
    </div>
  );
}
