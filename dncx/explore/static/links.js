"use strict";
// The order of writing at the chosen step: as a matrix of links, and as chains of slots.

class LinkPanel extends Panel {
  constructor(view) {
    super(
      view,
      "link",
      "Links: how far a slot was written right after another",
      "The link matrix at the chosen step: slots, by the slots that they were written after",
    );
    this.scale = { ramp: "weight", most: 1 };
  }

  height() {
    return this.side() + HEAD;
  }

  side() {
    return Math.min(this.width - GUTTER, 280);
  }

  /** The link from slot `after` to slot `slot`. */
  value(slot, after) {
    const { slots } = this.recording.sizes;
    return this.numbers[(this.view.head * slots + slot) * slots + after];
  }

  paint(context) {
    const { slots } = this.recording.sizes;
    const side = this.side();
    this.numbers = this.recording.at("link", this.view.steps().step);
    const table = { rows: slots, columns: slots, scale: this.scale };
    table.value = (row, column) => this.value(row, column);
    drawHeat(context, table, GUTTER, 0, side, side, this.view.colours);
    context.strokeStyle = this.view.colours.rule;
    context.strokeRect(GUTTER + 0.5, 0.5, side - 1, side - 1);
    this.slotLabels(context, slots, side);
    this.outlineSlot(context, 0, side, GUTTER, side);
    this.axes(context, side);
  }

  axes(context, side) {
    const { accent, muted } = this.view.colours;
    const { slots } = this.recording.sizes;
    if (this.state.slot !== null && this.state.slot < slots) {
      context.strokeStyle = accent;
      const cell = side / slots;
      const wide = cell < THIN ? cell + 3.5 : cell;
      const middle = GUTTER + ((this.state.slot + 0.5) * side) / slots;
      context.strokeRect(middle - wide / 2, 0.5, wide, side - 1);
    }
    context.fillStyle = muted;
    context.textAlign = "center";
    context.fillText("was written after slot →", GUTTER + side / 2, side + HEAD / 2);
    context.save();
    context.translate(10, side / 2);
    context.rotate(-Math.PI / 2);
    context.fillText("← slot", 0, 0);
    context.restore();
  }

  at(x, y) {
    const { slots } = this.recording.sizes;
    const side = this.side();
    const after = Math.floor(((x - GUTTER) * slots) / side);
    const slot = Math.floor((y * slots) / side);
    if (after < 0 || after >= slots || slot < 0 || slot >= slots) return null;
    const { step } = this.view.steps();
    const text = `slot ${slot} was written after slot ${after}: ${rounded(this.value(slot, after))}`;
    return { slot, text: `${text} · head ${this.view.head} · step ${step}` };
  }

  chosen() {
    const { slots } = this.recording.sizes;
    const slot = Math.min(this.state.slot ?? 0, slots - 1);
    return [GUTTER + 2, ((slot + 0.5) * this.side()) / slots];
  }
}

const BOX = { wide: 26, tall: 18, gap: 16, line: 26 };

/** Slots as boxes with arrows in the order of writing, filled by how far they are read. */
class ChainPanel extends Panel {
  constructor(view) {
    super(
      view,
      "chain",
      "Slots in the order of writing, coloured by what is read",
      "Slots in the order of writing at the chosen step, with arrows from each to the next",
    );
    this.scale = { ramp: "weight", most: 1 };
  }

  perLine() {
    return Math.max(1, Math.floor((this.plot + BOX.gap) / (BOX.wide + BOX.gap)));
  }

  height() {
    const row = this.recording.chainRow(this.view.steps().step, this.view.head);
    const length = row.findLastIndex((code) => code > 0) + 1;
    return Math.max(1, Math.ceil(length / this.perLine())) * BOX.line;
  }

  /** Its height depends on the step. */
  draw() {
    if (this.height() !== this.tall) this.resize();
    super.draw();
  }

  /** Every box: its slot, its place, and whether an arrow leads to it. */
  boxes() {
    const boxes = [];
    let place = 0;
    for (const chain of this.recording.chainsAt(this.view.steps().step, this.view.head)) {
      chain.forEach((slot, number) => {
        boxes.push({
          slot,
          x: GUTTER + (place % this.perLine()) * (BOX.wide + BOX.gap),
          y: Math.floor(place / this.perLine()) * BOX.line + (BOX.line - BOX.tall) / 2,
          led: number > 0,
        });
        place += 1;
      });
      place += 1;
    }
    return boxes;
  }

  paint(context) {
    this.label(context, "first →", BOX.line / 2);
    const reads = this.readsBySlot();
    const boxes = this.boxes();
    for (const box of boxes) {
      if (box.led) this.arrow(context, box);
      this.box(context, box, reads[box.slot]);
    }
    if (!boxes.length) this.none(context);
  }

  none(context) {
    context.fillStyle = this.view.colours.muted;
    context.textAlign = "left";
    context.fillText(
      "no two consecutive writes with more than half in a single slot",
      GUTTER,
      BOX.line / 2,
      this.plot,
    );
  }

  readsBySlot() {
    const { slots, read_heads: heads } = this.recording.sizes;
    const weights = this.recording.at("read_weights", this.view.steps().step);
    return Array.from({ length: slots }, (_, slot) =>
      Math.max(...Array.from({ length: heads }, (_, head) => weights[head * slots + slot])),
    );
  }

  box(context, { slot, x, y }, read) {
    const { accent, muted, ink, surface, weight } = this.view.colours;
    const chosen = slot === this.state.slot;
    context.fillStyle = cssColour(weight[Math.round(read * 255)]);
    context.fillRect(x, y, BOX.wide, BOX.tall);
    context.strokeStyle = chosen ? accent : muted;
    context.lineWidth = chosen ? 2 : 1;
    context.strokeRect(x + 0.5, y + 0.5, BOX.wide - 1, BOX.tall - 1);
    context.fillStyle = read > 0.45 ? surface : ink;
    context.textAlign = "center";
    context.fillText(String(slot), x + BOX.wide / 2, y + BOX.tall / 2 + 0.5, BOX.wide - 4);
  }

  arrow(context, { x, y }) {
    const middle = y + BOX.tall / 2;
    context.strokeStyle = this.view.colours.muted;
    context.lineWidth = 1;
    context.beginPath();
    context.moveTo(x - BOX.gap + 3, middle);
    context.lineTo(x - 3, middle);
    context.moveTo(x - 7, middle - 3.5);
    context.lineTo(x - 3, middle);
    context.lineTo(x - 7, middle + 3.5);
    context.stroke();
  }

  at(x, y) {
    const inside = (box) =>
      x >= box.x && x <= box.x + BOX.wide && y >= box.y && y <= box.y + BOX.tall;
    const found = this.boxes().find(inside);
    if (!found) return null;
    const { step } = this.view.steps();
    const written = holding(this.recording, found.slot, step);
    const read = rounded(this.readsBySlot()[found.slot]);
    return {
      slot: found.slot,
      text: `slot ${found.slot}${written ? `, ${written}` : ""}\nread ${read} · step ${step}`,
    };
  }

  chosen() {
    const boxes = this.boxes();
    const box = boxes.find((one) => one.slot === this.state.slot) ?? boxes[0];
    return box && [box.x + 2, box.y + 2];
  }
}
