"use strict";
// The memory at the chosen step, with the write weights to its left and the read weights to its
// right.

const HEAD = 18; // pixels above a picture, for its labels

class MemoryPanel extends Panel {
  constructor(view, id = "memory", title = "Memory") {
    super(
      view,
      id,
      title,
      `${title} at the chosen step: slots by numbers of a word, write weights left, read weights right`,
    );
    const [low, high] = view.app.range("memory");
    this.scale = { ramp: "signed", most: Math.max(-low, high) || 1 };
    this.top = this.severalHeads() ? 1.7 * HEAD : HEAD; // pixels above the contents
  }

  severalHeads() {
    const { read_heads: readHeads, write_heads: writeHeads } = this.recording.sizes;
    return readHeads > 1 || writeHeads > 1;
  }

  height() {
    return this.top + Math.round(Math.min(18 * this.recording.sizes.slots, 384));
  }

  /** The parts from left to right: their places and widths. */
  columns() {
    const { read_heads: heads } = this.recording.sizes;
    const writes = Math.max(28, this.plot * 0.12);
    const reads = Math.min(this.plot * 0.3, Math.max(this.plot * 0.12, heads * 26));
    const word = this.plot - writes - reads - 12;
    return { writes, word, reads, wordX: GUTTER + writes + 6, readX: GUTTER + writes + word + 12 };
  }

  /** The numbers to show, [slots, word]. */
  contents() {
    return this.recording.memoryAt(this.view.steps().step);
  }

  paint(context) {
    const { slots, word } = this.recording.sizes;
    const tall = this.tall - this.top;
    const parts = this.columns();
    const numbers = this.contents();
    const table = { rows: slots, columns: word, scale: this.scale };
    table.value = (row, column) => numbers[row * word + column];
    drawHeat(context, table, parts.wordX, this.top, parts.word, tall, this.view.colours);
    this.paintHeads(context, parts);
    this.writeBars(context, parts.writes, tall);
    this.readBars(context, parts, tall);
    this.slotLabels(context, slots, tall, this.top);
    this.outlineSlot(context, this.top, tall);
  }

  paintHeads(context, { writes, word, reads, wordX, readX }) {
    context.fillStyle = this.view.colours.muted;
    context.textAlign = "center";
    context.fillText("written", GUTTER + writes / 2, HEAD / 2);
    context.fillText(this.between(), wordX + word / 2, HEAD / 2, word);
    context.fillText("read", readX + reads / 2, HEAD / 2);
    const { read_heads: readHeads, write_heads: writeHeads } = this.recording.sizes;
    this.headNumbers(context, GUTTER, writes, writeHeads);
    this.headNumbers(context, readX, reads, readHeads);
  }

  /** The numbers of the heads above their bars, if there are several. */
  headNumbers(context, x, width, heads) {
    for (let head = 0; heads > 1 && head < heads; head++)
      context.fillText(String(head), x + ((head + 0.5) * width) / heads, this.top - 8);
  }

  /** The caption over the contents. */
  between() {
    const { step } = this.view.steps();
    const kept = this.recording.memoryStep(step);
    return kept === step ? "after the write" : `as of step ${kept}`;
  }

  /** Bars that grow to the left, one column per write head. */
  writeBars(context, width, tall) {
    const { slots, write_heads: heads } = this.recording.sizes;
    const weights = this.recording.at("write_weights", this.view.steps().step);
    const wide = width / heads;
    context.fillStyle = this.view.colours.ink;
    weights.forEach((weight, place) => {
      const [head, slot] = [Math.floor(place / slots), place % slots];
      const long = weight * (wide - 2);
      const y = this.top + (slot * tall) / slots;
      context.fillRect(GUTTER + (head + 1) * wide - long, y, long, barHeight(tall / slots));
    });
  }

  /** Bars that grow to the right, one column per read head, in the colours of the ways. */
  readBars(context, { reads, readX }, tall) {
    const { slots, read_heads: heads } = this.recording.sizes;
    const ways = this.recording.at("read_ways", this.view.steps().step);
    const wide = reads / heads;
    for (let head = 0; head < heads; head++) {
      context.fillStyle = this.view.colours.rule;
      context.fillRect(readX + head * wide - 1, this.top, 1, tall);
      for (let slot = 0; slot < slots; slot++) {
        let x = readX + head * wide;
        WAY_COLOURS.forEach((colour, way) => {
          const long = ways[(way * heads + head) * slots + slot] * (wide - 2);
          context.fillStyle = colour;
          context.fillRect(x, this.top + (slot * tall) / slots, long, barHeight(tall / slots));
          x += long;
        });
      }
    }
  }

  at(x, y) {
    const { slots, word, read_heads: readHeads, write_heads: writeHeads } = this.recording.sizes;
    const slot = Math.floor(((y - this.top) * slots) / (this.tall - this.top));
    if (x < GUTTER || slot < 0 || slot >= slots) return null;
    const { step } = this.view.steps();
    const parts = this.columns();
    const within = (from, width, count) =>
      Math.max(0, Math.min(count - 1, Math.floor(((x - from) * count) / width)));
    let text;
    if (x < parts.wordX) {
      const head = within(GUTTER, parts.writes, writeHeads);
      const weight = this.recording.at("write_weights", step)[head * slots + slot];
      text = `write weight ${rounded(weight)} · slot ${slot} · head ${head}`;
    } else if (x < parts.readX) {
      const number = within(parts.wordX, parts.word, word);
      text = `${this.title.toLowerCase()} ${rounded(this.contents()[slot * word + number])} · slot ${slot} · number ${number}`;
    } else {
      text = this.textOfRead(slot, within(parts.readX, parts.reads, readHeads), step);
    }
    return { slot, text: `${text} · step ${step}\n${holding(this.recording, slot, step)}`.trim() };
  }

  textOfRead(slot, head, step) {
    const { slots, read_heads: heads } = this.recording.sizes;
    const weight = this.recording.at("read_weights", step)[head * slots + slot];
    const ways = this.recording.at("read_ways", step);
    const parts = WAYS.map(
      (way, i) => `${way} ${rounded(ways[(i * heads + head) * slots + slot])}`,
    );
    return `read weight ${rounded(weight)} (${parts.join(", ")}) · slot ${slot} · head ${head}`;
  }

  chosen() {
    const { slots } = this.recording.sizes;
    const { wordX } = this.columns();
    const slot = Math.min(this.state.slot ?? 0, slots - 1);
    return [wordX + 2, this.top + ((slot + 0.5) * (this.tall - this.top)) / slots];
  }
}

/** The memory at the chosen step minus that at the step it is compared with. */
class DifferencePanel extends MemoryPanel {
  constructor(view) {
    super(view, "difference", "Memory difference");
  }

  severalHeads() {
    return false;
  }

  /** The scale ends at the largest difference. */
  paint(context) {
    const most = this.contents().reduce((far, number) => Math.max(far, Math.abs(number)), 0);
    this.scale = { ramp: "signed", most: most || 1 };
    this.showKey();
    super.paint(context);
  }

  contents() {
    const { step, chosen } = this.view.steps();
    const before = this.recording.memoryAt(step);
    return this.recording.memoryAt(chosen).map((number, place) => number - before[place]);
  }

  between() {
    const { step, chosen } = this.view.steps();
    return `step ${chosen} minus step ${step}`;
  }

  /** Without weights, since a difference of steps has no weights. */
  columns() {
    return { writes: 0, word: this.plot, reads: 0, wordX: GUTTER, readX: this.width + 1 };
  }

  paintHeads(context) {
    context.fillStyle = this.view.colours.muted;
    context.textAlign = "center";
    context.fillText(this.between(), GUTTER + this.plot / 2, HEAD / 2);
  }

  writeBars() {}

  readBars() {}
}

function barHeight(space) {
  return space > 4 ? space - 1.5 : space;
}
