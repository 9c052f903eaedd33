import { describe, expect, it } from "vitest";
import { limitValue } from "../src/budget/limits";
import { level, tightest } from "../src/budget/meters";
import { unsound } from "../src/budget/unsound";
import { skipped } from "../src/composer/attach";
import { chosenLimits, titleOf } from "../src/composer/send";
import { changed } from "../src/settings/ModelForm";
import { backoff } from "../src/transport/backoff";
import { readFrame } from "../src/transport/frames";
import { uuid7 } from "../src/transport/ids";
import { providerOfKey } from "../src/welcome/providers";
import { bytes, clock, compact, cost, duration } from "../src/workspace/format";

describe("numbers for people", () => {
  it("never shows an unknown price as zero", () => {
    expect([cost(null), cost(undefined), cost(0), cost(0.0042), cost(1.5)]).toEqual([
      "unknown",
      "unknown",
      "free",
      "$0.0042",
      "$1.50",
    ]);
  });
  it("keeps three digits", () => {
    expect([compact(950), compact(12_345), compact(999_999), compact(4_200_000)]).toEqual([
      "950",
      "12.3k",
      "1M",
      "4.2M",
    ]);
    expect([bytes(512), bytes(20_000_000)]).toEqual(["512 B", "20 MB"]);
    expect([duration(84), duration(1_240), duration(125_000), clock(125_000)]).toEqual([
      "84 ms",
      "1.2 s",
      "2 m 05 s",
      "02:05",
    ]);
  });
});

describe("transport parts", () => {
  it("reads events, arrays of events and control frames, and drops the rest", () => {
    const event = { sid: "s", seq: 3, ts: 1, epoch: "e", type: "error", data: { code: "x", message: "y" } };
    expect(readFrame(JSON.stringify(event)).events).toHaveLength(1);
    expect(readFrame(JSON.stringify([event, { nonsense: 1 }])).events).toHaveLength(1);
    expect(readFrame('{"type":"error","code":"x","message":"y"}').control?.type).toBe("error");
    expect(readFrame("17")).toEqual({ events: [], control: null });
  });
  it("backs off with jitter up to 8 s and no further", () => {
    expect(backoff(0, () => 1)).toBe(300);
    expect(backoff(50, () => 1)).toBe(8_050);
    expect(backoff(50, () => 0)).toBe(50);
  });
  it("makes ids that sort by time", () => {
    const ids = [1_000, 2_000, 1_795_244_400_123].map((now) => uuid7(now));
    expect([...ids].sort()).toEqual(ids);
    for (const id of ids)
      expect(id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  });
});

describe("questions and settings", () => {
  it("makes a title of one line", () => {
    expect(titleOf("  Where\nis it? ")).toBe("Where is it?");
    expect(titleOf("x".repeat(80))).toHaveLength(60);
  });
  it("sends only the limits that were set", () => {
    expect(chosenLimits({})).toBeUndefined();
    expect(chosenLimits({ calls: 20, tokens: undefined })).toEqual({ calls: 20 });
  });
  it("reads limits as people type them", () => {
    expect(["", "0", "0.05", "x", "-1"].map((raw) => limitValue("cost_usd", raw))).toEqual([
      undefined,
      Number.NaN,
      0.05,
      Number.NaN,
      Number.NaN,
    ]);
    expect([unsound({ calls: Number.NaN }), unsound({ calls: 5 }), unsound({})]).toEqual([
      true,
      false,
      false,
    ]);
    expect([limitValue("calls", "19.6"), limitValue("depth", "0"), limitValue("depth", "99")]).toEqual([
      20, 0, 8,
    ]);
  });
  it("leaves out of a folder what the server would leave out", () => {
    expect([".git/config", "a/node_modules/b.js", "src/a.py"].map(skipped)).toEqual([true, true, false]);
  });
  it("saves only what differs, and an emptied field as none", () => {
    const saved = {
      model: "a/b",
      sub_model: "c/d",
      api_base: null,
      key: { set: true, ends: "1234", source: "env" },
      sources: {},
      suggestions: [],
    };
    expect(changed({ model: "a/b", sub_model: "", api_base: "", api_key: "" }, saved)).toEqual({
      sub_model: null,
    });
    expect(changed({ model: "x/y", sub_model: "c/d", api_base: "", api_key: " k " }, saved)).toEqual({
      model: "x/y",
      api_key: "k",
    });
  });
  it("knows a provider by the beginning of its key", () => {
    expect(["sk-ant-1", "sk-or-1", "AIza1", "sk-1", "?"].map((key) => providerOfKey(key)?.prefix)).toEqual([
      "anthropic",
      "openrouter",
      "gemini",
      "openai",
      undefined,
    ]);
  });
});

describe("budget meter", () => {
  const meter = (fraction: number | null) => ({
    unit: "calls" as const,
    label: "",
    used: "",
    limit: null,
    fraction,
    reserved: 0,
    forecast: null,
    over: false,
  });
  it("shows the limit that is nearest, with its level", () => {
    expect(tightest([meter(0.2), meter(null), meter(0.8)])?.fraction).toBe(0.8);
    expect(tightest([meter(null)])).toBeNull();
    expect([level(null), level(0.69), level(0.7), level(0.9)]).toEqual(["ok", "ok", "warn", "err"]);
  });
});
