"use strict";
// What the page says about steps and slots.

/** Which head, if there are several. */
function byHead(count, ...heads) {
  if (count === 1) return "";
  return ` (head${heads.length > 1 ? "s" : ""} ${heads.join(" and ")})`;
}

function writesIn({ writesAt, sizes }, step) {
  const writes = writesAt.get(step) ?? [];
  return writes.map(
    (one) => `slot ${one.slot}, ${one.way}${byHead(sizes.write_heads, one.head)}`,
  );
}

function readsIn({ readsAt, sizes }, step) {
  const reads = readsAt.get(step) ?? [];
  return reads.map(
    (one) =>
      `slot ${one.slot}, ${writtenAt(one.written)}, by ${one.way}${byHead(sizes.read_heads, one.head)}`,
  );
}

function writtenAt(step) {
  return step === null ? "not written before" : `written at step ${step}`;
}

/** Whether a step wrote, but no single slot got more than half of a write. */
function writesAreSpread(recording, step) {
  if (recording.writesAt.has(step)) return false;
  const { slots, write_heads: heads } = recording.sizes;
  const weights = recording.at("write_weights", step);
  return Array.from({ length: heads }, (_, head) =>
    weights.subarray(head * slots, (head + 1) * slots).reduce((sum, weight) => sum + weight, 0),
  ).some((sum) => sum > 0.5);
}

/** One sentence about a step, for screen readers. */
function sentence(recording, step) {
  const parts = ["inputs", "targets", "outputs"]
    .filter((part) => recording.text(part, step))
    .map((part) => `${part.slice(0, -1)} ${recording.text(part, step)}`);
  if (recording.wrong(step)) parts.push("output differs from target");
  parts.push(...writesIn(recording, step).map((text) => `wrote ${text}`));
  parts.push(...readsIn(recording, step).map((text) => `read ${text}`));
  return `Step ${step}: ${parts.join("; ")}.`;
}

/** All that happened to a slot, in order: records of a step, a kind, and a text. */
function story(recording, slot) {
  const events = [];
  for (const life of recording.lifetimes.filter((one) => one.slot === slot)) {
    const text = writtenText(recording, life);
    events.push({ step: life.written, order: 1, kind: "written", text });
    events.push({ step: life.ended, order: 0, kind: life.end, text: endText(recording, life) });
  }
  for (const read of recording.reads.filter((one) => one.slot === slot)) {
    const head = byHead(recording.sizes.read_heads, read.head);
    const text = `read at step ${read.step} by ${read.way}${head}`;
    events.push({ step: read.step, order: 2, kind: "read", text });
  }
  // The end of an overwritten lifetime is the next write, which is listed already.
  const listed = events.filter((event) => event.kind !== "overwritten");
  return listed.sort((a, b) => a.step - b.step || a.order - b.order);
}

function writtenText(recording, life) {
  const before = recording.lifetimes.some(
    (one) =>
      one !== life && one.slot === life.slot && one.end === "overwritten" && one.ended === life.written,
  );
  const verb = before ? "overwritten" : "written";
  const head = byHead(recording.sizes.write_heads, life.head);
  return `${verb} at step ${life.written}${head}${shownAt(recording, life.written)}`;
}

function endText({ frees, sizes }, { slot, ended, end }) {
  if (end === "kept") return "still there at the end";
  const heads = frees.filter((one) => one.slot === slot && one.step === ended);
  return `freed at step ${ended}${byHead(sizes.read_heads, ...heads.map((one) => one.head))}`;
}

/** What was shown when a slot was written, which is most likely what was written. */
function shownAt(recording, step) {
  const item = recording.text("inputs", step);
  return item ? `, when ${item} was shown` : "";
}

/** When the content that a slot has at a step was written. */
function holding(recording, slot, step) {
  const life = recording.lifetimeAt(slot, step);
  return life ? `written at step ${life.written}${shownAt(recording, life.written)}` : "";
}

/** Sizes and scores of a recording. */
function facts({ sizes, scores }) {
  const several = (number, name) => `${number} ${name}${number === 1 ? "" : "s"}`;
  return [
    several(sizes.steps, "step"),
    `${several(sizes.slots, "slot")} of ${several(sizes.word, "number")}`,
    several(sizes.read_heads, "read head"),
    several(sizes.write_heads, "write head"),
    ...Object.entries(scores).map(([name, score]) => `${name.replaceAll("_", " ")} ${score}`),
  ].join(" · ");
}
