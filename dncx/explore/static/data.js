"use strict";
// Recordings: the header's records, and arrays of codes that are decoded when they are read.

class Recording {
  constructor(record, buffer) {
    Object.assign(this, record);
    this.arrays = {};
    for (const [name, place] of Object.entries(record.arrays)) {
      this.arrays[name] = withCodes(place, buffer);
    }
    this.chainCodes = record.chains && withCodes(record.chains, buffer);
    this.writesAt = grouped(this.writes, "step");
    this.readsAt = grouped(this.reads, "step");
  }

  has(name) {
    return name in this.arrays;
  }

  /** A function from an index in the flattened array to its number. */
  reader(name) {
    const { codes, low, scale } = this.arrays[name];
    return (place) => low + scale * codes[place];
  }

  /** All numbers of an array, flattened. */
  numbers(name) {
    const { codes, low, scale } = this.arrays[name];
    return Float32Array.from(codes, (code) => low + scale * code);
  }

  /** The lowest and the highest number of an array. */
  range(name) {
    const { bits, low, scale } = this.arrays[name];
    return [low, low + scale * (2 ** bits - 1)];
  }

  /** Where to begin: the first step that counts, and the slot of its first read. */
  beginning() {
    const counts = this.has("mask") ? this.numbers("mask").findIndex((number) => number > 0) : 0;
    const step = Math.max(0, counts);
    return { step, slot: this.readsAt.get(step)?.[0].slot ?? null };
  }

  /** The numbers of one step, flattened. */
  at(name, step) {
    const { shape, codes, low, scale } = this.arrays[name];
    const size = shape.slice(1).reduce((a, b) => a * b, 1);
    const row = codes.subarray(step * size, (step + 1) * size);
    return Float32Array.from(row, (code) => low + scale * code);
  }

  /** The step whose memory is shown for a step: the last one that the page has. */
  memoryStep(step) {
    return step - (step % this.memory_every);
  }

  memoryAt(step) {
    return this.at("memory", Math.floor(step / this.memory_every));
  }

  /** Slots in the order of writing, one list per chain. */
  chainsAt(step, head) {
    const chains = [];
    let chain = [];
    for (const code of this.chainRow(step, head)) {
      if (code) chain.push(code - 1);
      else if (chain.length) {
        chains.push(chain);
        chain = [];
      }
    }
    return chains;
  }

  chainRow(step, head) {
    const [, heads, length] = this.chainCodes.shape;
    const start = (step * heads + head) * length;
    return this.chainCodes.codes.subarray(start, start + length);
  }

  /** The lifetime that a slot is in at a step, if any. */
  lifetimeAt(slot, step) {
    return this.lifetimes.find(
      (life) => life.slot === slot && life.written <= step && step < life.ended,
    );
  }

  /** The input, target or output of a step, in words or numbers. */
  text(part, step) {
    if (this.words) return this.words[part][step];
    if (!this.has(part)) return "";
    const row = [...this.at(part, step)].map((number) => rounded(number));
    return row.length > 8 ? `${row.slice(0, 8).join(" ")} …` : row.join(" ");
  }

  /** Whether an output differs from its target. */
  wrong(step) {
    if (!this.words || !this.words.targets[step]) return false;
    return this.words.targets[step] !== this.words.outputs[step];
  }
}

function withCodes(place, buffer) {
  const size = place.shape.reduce((a, b) => a * b, 1);
  const Codes = place.bits === 8 ? Uint8Array : Uint16Array;
  return { ...place, codes: new Codes(buffer, place.offset, size) };
}

function grouped(records, key) {
  const groups = new Map();
  for (const record of records) {
    if (!groups.has(record[key])) groups.set(record[key], []);
    groups.get(record[key]).push(record);
  }
  return groups;
}

/** A number as a person reads it: three figures. */
function rounded(number) {
  return Math.abs(number) < 0.0005 ? "0" : String(Number(number.toPrecision(3)));
}

async function loadRecordings() {
  const header = JSON.parse(document.getElementById("header").textContent);
  const text = atob(document.getElementById("blob").textContent.trim());
  const packed = new Uint8Array(text.length);
  for (let i = 0; i < packed.length; i++) packed[i] = text.charCodeAt(i);
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const buffer = await new Response(stream).arrayBuffer();
  return header.recordings.map((record) => new Recording(record, buffer));
}
