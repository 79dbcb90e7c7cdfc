"use strict";
// What the page says: of steps, of slots, of what is under the pointer.

function writesIn(recording, step) {
  const writes = recording.writesAt.get(step) ?? [];
  return writes.map((one) => `slot ${one.slot} (head ${one.head}, ${one.way})`);
}

function readsIn(recording, step) {
  const reads = recording.readsAt.get(step) ?? [];
  return reads.map(
    (one) => `slot ${one.slot}, ${writtenAt(one.written)}, by ${one.way} (head ${one.head})`,
  );
}

function writtenAt(step) {
  return step === null ? "never sharply written" : `written at step ${step}`;
}

/** One sentence on a step, for those who listen. */
function sentence(recording, step) {
  const parts = ["inputs", "targets", "outputs"]
    .filter((part) => recording.said(part, step))
    .map((part) => `${part.slice(0, -1)} ${recording.said(part, step)}`);
  if (recording.wrong(step)) parts.push("output differs from target");
  parts.push(...writesIn(recording, step).map((said) => `wrote ${said}`));
  parts.push(...readsIn(recording, step).map((said) => `read ${said}`));
  return `Step ${step}: ${parts.join("; ")}.`;
}

/** All that happened to a slot, in order: records of a step, a kind, and a text. */
function story(recording, slot) {
  const events = [];
  for (const life of recording.lifetimes.filter((one) => one.slot === slot)) {
    events.push({
      step: life.written,
      order: 1,
      kind: "written",
      text: writtenText(recording, life),
    });
    events.push({ step: life.ended, order: 0, kind: life.end, text: endText(recording, life) });
  }
  for (const read of recording.reads.filter((one) => one.slot === slot)) {
    const text = `read at step ${read.step} by ${read.way}, head ${read.head}`;
    events.push({ step: read.step, order: 2, kind: "read", text });
  }
  const told = events.filter((event) => event.kind !== "overwritten");
  return told.sort((a, b) => a.step - b.step || a.order - b.order);
}

function writtenText(recording, life) {
  const before = recording.lifetimes.some(
    (one) =>
      one !== life && one.slot === life.slot && one.end === "overwritten" && one.ended === life.written,
  );
  const verb = before ? "overwritten" : "written";
  return `${verb} at step ${life.written} by head ${life.head}${shownAt(recording, life.written)}`;
}

function endText(recording, { slot, ended, end }) {
  if (end === "kept") return "still there at the end";
  const heads = recording.frees
    .filter((one) => one.slot === slot && one.step === ended)
    .map((one) => one.head);
  return `freed at step ${ended} by head ${heads.join(" and ")}`;
}

/** What was shown when a slot was written: most likely what was written. */
function shownAt(recording, step) {
  const item = recording.said("inputs", step);
  return item ? `, when ${item} was shown` : "";
}

/** When what a slot holds at a step was written. */
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

/** How far numbers on this page are from the trace's, by their arrays. */
function exactness(recording) {
  const half = (name) => Number((recording.arrays[name].scale / 2).toPrecision(1));
  const names = Object.keys(recording.arrays);
  return names.map((name) => `${name} ±${half(name)}`).join(", ");
}
