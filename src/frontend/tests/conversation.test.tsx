import { fireEvent, render, screen } from "@testing-library/react";
import { describe, expect, it, vi } from "vitest";
import { closeOpen, NO_BLOCKS, split, tooDeep } from "../src/conversation/blocks";
import Markdown from "../src/conversation/Markdown";
import { clamp, cutAt, settle } from "../src/inspector/outputs";

const ANSWER = [
  "# Title",
  "",
  "1. one",
  "",
  "2. two, the list stays loose",
  "",
  "```python",
  "a = 1",
  "",
  "b = 2",
  "```",
  "",
  "| a | b |",
  "|---|---|",
  "| 1 | 2 |",
  "",
  "Last words.",
].join("\n");

describe("streaming markdown", () => {
  it("gives the same blocks however the text arrives", () => {
    const whole = split(ANSWER, NO_BLOCKS).parts;
    expect(whole.join("")).toBe(ANSWER);
    expect(whole).toHaveLength(5);
    for (const step of [1, 3, 7]) {
      let blocks = NO_BLOCKS;
      for (let end = step; end < ANSWER.length + step; end += step)
        blocks = split(ANSWER.slice(0, end), blocks);
      expect(blocks.parts).toEqual(whole);
    }
  });

  it("keeps the identity of blocks that are done", () => {
    const first = split(ANSWER.slice(0, 90), NO_BLOCKS);
    const second = split(ANSWER, first);
    expect(second.parts[0]).toBe(first.parts[0]);
  });

  it("closes what the stream has opened", () => {
    expect(closeOpen("```python\na = 1")).toBe("```python\na = 1\n```");
    expect(closeOpen("see **bold")).toBe("see **bold**");
    expect(closeOpen("call `run")).toBe("call `run`");
    expect(closeOpen("done `run` **x**")).toBe("done `run` **x**");
  });

  it("links only places that the citations know", () => {
    const onCite = vi.fn();
    const citation = { context: "c", path: "a/b.py", line: 7, start: 0, end: 1, quote: "x" };
    render(
      <Markdown
        text="See a/b.py:7, `a/b.py:7` and a/b.py:8."
        streaming={false}
        citations={[citation]}
        onCite={onCite}
      />,
    );
    const links = screen.getAllByTestId("citation");
    expect(links.map((link) => link.textContent)).toEqual(["a/b.py:7", "a/b.py:7"]);
    fireEvent.click(links[0] as HTMLElement);
    expect(onCite).toHaveBeenCalledWith(0);
    expect(document.body.textContent).toContain("a/b.py:8");
  });

  it("stands as it was written where it is nested without end, streaming or done", () => {
    const lines = (count: number) =>
      Array.from({ length: count }, (_, i) => `${"  ".repeat(i)}- x`).join("\n");
    for (const deep of ["- ", "1. ", "> ", "> - "]
      .map((mark) => `so:\n\n${mark.repeat(3_000)}x`)
      .concat(lines(400)))
      for (const streaming of [false, true]) {
        const { unmount } = render(
          <Markdown text={deep} streaming={streaming} citations={[]} onCite={() => {}} />,
        );
        expect(screen.getByTestId("plain").textContent).toBe(deep);
        unmount();
      }
    for (const plain of [ANSWER, lines(20), "-".repeat(500), `${"> ".repeat(20)}x`, `    ${"- ".repeat(30)}`])
      expect(tooDeep(plain)).toBe(false);
  });

  it("stands as it was written where drawing it fails, and the rest of the page lives on", () => {
    const silent = vi.spyOn(console, "error").mockImplementation(() => {});
    const citations = new Proxy([], {
      get: (_, name) => {
        throw new Error(String(name));
      },
    }) as never;
    render(
      <>
        <p>before</p>
        <Markdown text="see a.txt:1" streaming={false} citations={citations} onCite={() => {}} />
      </>,
    );
    expect(screen.getByText("before")).toBeTruthy();
    expect(screen.getByTestId("plain").textContent).toBe("see a.txt:1");
    silent.mockRestore();
  });

  it("makes no link of what may not be followed", () => {
    const text = "[run](javascript:alert(1)) and [read](https://example.org/)";
    const { container } = render(<Markdown text={text} streaming={false} citations={[]} onCite={() => {}} />);
    expect(container.textContent).toBe("run and read");
    expect([...container.querySelectorAll("a")].map((link) => link.textContent)).toEqual(["read"]);
  });

  it("runs no markup and loads no picture of the answer", () => {
    const text =
      'Hello <img src=x onerror="window.hit=1"> <script>window.hit=1</script> ![chart](https://host.invalid/a.png) [go](javascript:alert(1))';
    const { container } = render(<Markdown text={text} streaming={false} citations={[]} onCite={() => {}} />);
    expect(container.querySelector("img, script")).toBeNull();
    expect(container.textContent).toContain("chart");
    expect(container.querySelector("a")?.getAttribute("href") ?? "").not.toContain("javascript");
  });
});

describe("cell output", () => {
  it("draws the boundary where the model's view ended, across streams", () => {
    const parts = cutAt(
      [
        { stream: "stdout", text: "abcdef" },
        { stream: "stderr", text: "ghij" },
      ],
      8,
    );
    expect(parts).toEqual([
      { stream: "stdout", text: "abcdef", unseen: false },
      { stream: "stderr", text: "gh", unseen: false },
      { stream: "stderr", text: "ij", unseen: true },
    ]);
    expect(cutAt([{ stream: "stdout", text: "abc" }], null)).toHaveLength(1);
  });

  it("clamps to 20 lines and tells how many it hides", () => {
    const text = `${Array.from({ length: 50 }, (_, i) => `line ${i}`).join("\n")}\n`;
    const { parts, hiddenLines } = clamp([{ stream: "stdout", text, unseen: false }]);
    expect(parts[0]?.text.trimEnd().split("\n")).toHaveLength(20);
    expect(hiddenLines).toBe(30);
  });

  it("keeps only the last state of a progress bar", () => {
    expect(settle("10%\r50%\r100%\ndone\n")).toBe("100%\ndone\n");
    expect(settle("a\r\nb")).toBe("a\nb");
  });
});
