// Every group of the Daytona API by the TypeScript SDK.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { Daytona, DaytonaError, DaytonaNotFoundError, DaytonaTimeoutError, type Sandbox } from "@daytonaio/sdk";

const LABELS = { example: "typescript" };

async function life(daytona: Daytona, box: Sandbox) {
  await box.setLabels({ ...LABELS, step: "life" });
  const found: string[] = [];
  for await (const each of daytona.list({ labels: { ...LABELS, step: "life" } })) found.push(each.id);
  assert.deepEqual(found, [box.id]);
  await box.setAutostopInterval(30);
  await box.stop();
  assert.equal((await daytona.get(box.id)).state, "stopped");
  await box.start();
  return `started again in ${await box.getWorkDir()}`;
}

async function files(_: Daytona, box: Sandbox) {
  const data = randomBytes(1 << 20);
  await box.fs.createFolder("data", "755");
  await box.fs.uploadFile(data, "data/bin");
  assert.ok(data.equals(await box.fs.downloadFile("data/bin")));
  await box.fs.uploadFiles([{ source: Buffer.from("alpha\nbeta\n"), destination: "data/text" }]);
  assert.deepEqual((await box.fs.listFiles("data")).map((f) => f.name).sort(), ["bin", "text"]);
  assert.equal((await box.fs.findFiles("data", "beta"))[0]?.line, 2);
  await box.fs.replaceInFiles(["data/text"], "beta", "delta");
  await box.fs.setFilePermissions("data/text", { mode: "600" });
  await box.fs.moveFiles("data/text", "data/moved");
  assert.equal((await box.fs.downloadFile("data/moved")).toString(), "alpha\ndelta\n");
  assert.equal((await box.fs.getFileDetails("data/moved")).size, 12);
  await box.fs.deleteFile("data", true);
  return "1 MiB there and back; searched, replaced, moved, deleted";
}

async function programs(_: Daytona, box: Sandbox) {
  const done = await box.process.executeCommand("echo $NAME; exit 3", undefined, { NAME: "value" });
  assert.deepEqual([done.result.trim(), done.exitCode], ["value", 3]);
  assert.equal((await box.process.codeRun("print(6 * 7)")).result.trim(), "42");
  await assert.rejects(box.process.executeCommand("sleep 30", undefined, undefined, 1), DaytonaTimeoutError);
  return "a command, a program, a time-out";
}

async function sessions(_: Daytona, box: Sandbox) {
  await box.process.createSession("work");
  const run = (command: string, runAsync = false) =>
    box.process.executeSessionCommand("work", { command, runAsync });
  await run("export KEPT=yes");
  assert.match((await run("echo $KEPT")).stdout ?? "", /yes/);
  const waiting = await run("read line; echo got $line", true);
  await box.process.sendSessionCommandInput("work", waiting.cmdId, "a line\n");
  let out = "";
  await box.process.getSessionCommandLogs("work", waiting.cmdId, (text) => { out += text; }, () => {});
  assert.match(out, /got a line/);
  await box.process.deleteSession("work");
  return "state, input, a followed log";
}

async function terminal(_: Daytona, box: Sandbox) {
  let seen = "";
  const decoder = new TextDecoder();
  const pty = await box.process.createPty({
    id: "term",
    cols: 100,
    rows: 30,
    onData: (data: Uint8Array) => { seen += decoder.decode(data, { stream: true }); },
  });
  await pty.waitForConnection();
  await pty.resize(120, 40);
  await pty.sendInput("stty size; exit 5\n");
  const end = await pty.wait();
  assert.match(seen, /40 120/);
  assert.equal(end.exitCode, 5);
  return "resized, its exit status 5";
}

async function contexts(_: Daytona, box: Sandbox) {
  const context = await box.codeInterpreter.createContext();
  await box.codeInterpreter.runCode("x = 41", { context });
  assert.equal((await box.codeInterpreter.runCode("print(x + 1)", { context })).stdout.trim(), "42");
  assert.equal((await box.codeInterpreter.runCode("1 / 0", { context })).error?.name, "ZeroDivisionError");
  await box.codeInterpreter.deleteContext(context);
  return "variables stay, errors come typed";
}

async function git(_: Daytona, box: Sandbox) {
  await box.process.executeCommand(
    "git init -q -b main origin && cd origin && git -c user.name=A -c user.email=a@b.c commit -q --allow-empty -m first",
  );
  await box.git.clone(`file://${await box.getWorkDir()}/origin`, "clone");
  await box.fs.uploadFile(Buffer.from("text\n"), "clone/new.txt");
  await box.git.add("clone", ["new.txt"]);
  await box.git.commit("clone", "second", "B", "b@c.d");
  await box.git.createBranch("clone", "side");
  assert.ok((await box.git.branches("clone")).branches.includes("side"));
  return "cloned, committed, branched";
}

async function volumes(daytona: Daytona, _: Sandbox) {
  const volume = await daytona.volume.get("example-typescript", true);
  for (const first of [true, false]) {
    const mounts = [{ volumeId: volume.id, mountPath: "/shared" }];
    const box = await daytona.create({ language: "python", labels: LABELS, volumes: mounts });
    if (first) await box.fs.uploadFile(Buffer.from("kept"), "/shared/file");
    else assert.equal((await box.fs.downloadFile("/shared/file")).toString(), "kept");
    await box.delete(60, true);
  }
  await daytona.volume.delete(await daytona.volume.get("example-typescript"));
  return "a file outlives its sandbox";
}

async function errors(daytona: Daytona, box: Sandbox) {
  await assert.rejects(daytona.get("no-such-sandbox"), DaytonaNotFoundError);
  await assert.rejects(box.fs.getFileDetails("no/such/file"), DaytonaNotFoundError);
  return "of the precise classes";
}

const daytona = new Daytona();
const box = await daytona.create({ language: "python", labels: LABELS, ttlMinutes: 30 });
try {
  for (const group of [life, files, programs, sessions, terminal, contexts, git, volumes, errors]) {
    try {
      console.log(`${group.name}: ${await group(daytona, box)}`);
    } catch (error) {
      if (!(error instanceof DaytonaError) || error.statusCode !== 501) throw error;
      console.log(`${group.name}: not served here: ${error.message}`);
      process.exitCode = 1;
    }
  }
} finally {
  await box.delete(60, true);
}
