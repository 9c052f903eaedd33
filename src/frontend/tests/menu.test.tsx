import { act, fireEvent, render, screen } from "@testing-library/react";
import { beforeEach, describe, expect, it, vi } from "vitest";
import { listenForKeys } from "../src/shell/keyboard";
import { Menu } from "../src/ui/Menu";

const chosen = vi.fn();

/** A page with a field, a dialog and an open menu. */
async function open(movesFocus = false): Promise<HTMLElement> {
  render(
    <main id="main">
      <textarea id="composer" aria-label="Question" />
      <div role="dialog" aria-label="Commands">
        <input aria-label="Command" />
      </div>
      <Menu
        trigger={<button type="button">More</button>}
        items={[
          { label: "Replay", movesFocus, onSelect: chosen },
          { label: "Compare", onSelect: chosen },
        ]}
      />
    </main>,
  );
  fireEvent.click(screen.getByRole("button", { name: "More" }));
  return await screen.findByRole("menu");
}

const focus = (name: string) => act(async () => screen.getByRole("textbox", { name }).focus());

describe("an open menu", () => {
  beforeEach(() => chosen.mockReset());

  it("stays open, with the focus where it was, when the page gives the focus to something else", async () => {
    const menu = await open();
    expect(document.activeElement).toBe(menu);
    await focus("Question");
    expect(screen.getByRole("menu")).toBe(menu);
    expect(document.activeElement).toBe(menu);
    const entry = screen.getByRole("menuitem", { name: "Compare" });
    act(() => entry.focus());
    await focus("Question");
    expect(document.activeElement).toBe(entry);
  });

  it("makes way for a dialog", async () => {
    await open();
    await focus("Command");
    expect(screen.queryByRole("menu")).toBeNull();
    expect(document.activeElement).toBe(screen.getByRole("textbox", { name: "Command" }));
  });

  it("lets go of the focus for an entry that leads it elsewhere", async () => {
    await open(true);
    const field = screen.getByRole("textbox", { name: "Question" });
    chosen.mockImplementation(() => field.focus());
    await act(async () => fireEvent.click(screen.getByRole("menuitem", { name: "Replay" })));
    expect(screen.queryByRole("menu")).toBeNull();
    expect(document.activeElement).toBe(field);
  });

  it("takes no entry that the pointer was only let go over", async () => {
    await open();
    fireEvent.pointerDown(screen.getByRole("menuitem", { name: "Compare" }), { button: 0 });
    fireEvent.pointerUp(screen.getByRole("menuitem", { name: "Replay" }), { button: 0 });
    expect(chosen).not.toHaveBeenCalled();
    expect(screen.queryByRole("menu")).not.toBeNull();
  });

  it("has its letters for itself", async () => {
    const menu = await open();
    const stop = listenForKeys(() => {});
    const slash = fireEvent.keyDown(menu, { key: "/" });
    stop();
    expect(slash).toBe(true);
    expect(document.activeElement).toBe(menu);
  });
});
