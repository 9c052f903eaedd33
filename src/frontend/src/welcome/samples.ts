import { explain } from "@/api/client";
import { addText } from "@/api/resources";
import { attachFiles } from "@/composer/attach";
import { editDraft, fromContext, getDraft } from "@/composer/drafts";
import { toast } from "@/shell/ui";

const STATIONS = [
  "Aldermoor",
  "Brackley",
  "Corvin Bay",
  "Dunmere",
  "Eastfold",
  "Farrow",
  "Glenholt",
  "Harrowgate",
];
const WORK = [
  "pressure checked",
  "filter replaced",
  "valve greased",
  "pump restarted",
  "sensor calibrated",
  "seal inspected",
];

/** 20,000 log lines, always the same; one of them says what the question asks for. */
export function sampleLog(): string {
  const lines: string[] = [];
  for (let i = 0; i < 20_000; i += 1) {
    const day = String(1 + (Math.floor(i / 700) % 28)).padStart(2, "0");
    const minute = String((i * 7) % 60).padStart(2, "0");
    const hour = String(Math.floor(i / 29) % 24).padStart(2, "0");
    const station = STATIONS[(i * 5) % STATIONS.length];
    const work = WORK[(i * 11 + Math.floor(i / 13)) % WORK.length];
    lines.push(`2026-03-${day}T${hour}:${minute} station ${station}: ${work}, crew ${1 + (i % 9)}`);
  }
  lines[13_407] =
    "2026-03-19T06:14 station Dunmere: emergency shutdown ordered by Ines Okafor after a turbine overspeed";
  return `${lines.join("\n")}\n`;
}

export const SAMPLE_QUESTION = "Who ordered the emergency shutdown at the Dunmere station, and why?";

export async function loadSampleLog(key: string): Promise<void> {
  try {
    const ref = await addText("maintenance.log", sampleLog());
    editDraft(key, {
      text: getDraft(key).text || SAMPLE_QUESTION,
      mode: "rlm",
      attachments: [fromContext(ref)],
    });
    document.getElementById("composer")?.focus();
  } catch (error) {
    toast(explain(error).message);
  }
}

/** Open the system's picker and attach what is chosen. */
export function pick(key: string, folder: boolean, question: string): void {
  const input = document.createElement("input");
  input.type = "file";
  input.multiple = true;
  if (folder) input.setAttribute("webkitdirectory", "");
  input.onchange = () => {
    const files = [...(input.files ?? [])];
    if (!files.length) return;
    attachFiles(key, files, getDraft(key).attachments ?? []);
    if (!getDraft(key).text) editDraft(key, { text: question });
    document.getElementById("composer")?.focus();
  };
  input.click();
}
