import { Component, type ErrorInfo, type ReactNode } from "react";
import { Button } from "./Button";

interface Props {
  /** What died, for the reader: "The run tree". */
  name: string;
  children: ReactNode;
}

/** One per panel: the tree may die and the conversation lives on. */
export class ErrorBoundary extends Component<Props, { error: Error | null }> {
  override state: { error: Error | null } = { error: null };

  static getDerivedStateFromError(error: Error) {
    return { error };
  }

  override componentDidCatch(error: Error, info: ErrorInfo) {
    console.error(error, info.componentStack);
  }

  override render() {
    const { error } = this.state;
    if (!error) return this.props.children;
    const report = `${this.props.name}: ${error.message}\n${error.stack ?? ""}`;
    return (
      <div role="alert" className="m-4 rounded-lg border border-line bg-panel p-4">
        <p className="font-medium">{this.props.name} could not be drawn.</p>
        <p className="mt-1 font-mono text-xs text-muted">{error.message}</p>
        <div className="mt-3 flex gap-2">
          <Button onClick={() => this.setState({ error: null })}>Reload this panel</Button>
          <Button look="quiet" onClick={() => void navigator.clipboard.writeText(report)}>
            Copy report
          </Button>
        </div>
      </div>
    );
  }
}
