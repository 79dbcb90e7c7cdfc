"use strict";
// Panels over time: heat maps of rows by steps, shares of modes, and the axis.

/** Rows by steps in colour. `table` has: rows, columns (steps), value(row, step), scale,
 * text(row, step); if the rows are slots, slots: true; else names of the rows, if any. */
class TimePanel extends Panel {
  constructor(view, id, title, table, tall) {
    super(view, id, title, `${title}: ${table.what ?? "heads by time"}`);
    this.table = { columns: this.recording.sizes.steps, ...table };
    this.wanted = tall;
  }

  get scale() {
    return this.table.scale;
  }

  height() {
    return this.wanted;
  }

  x(step) {
    return GUTTER + (step * this.plot) / this.table.columns;
  }

  paint(context) {
    this.background(context, (beneath) => this.paintStill(beneath));
    if (this.table.slots) {
      this.slotLabels(context, this.table.rows, this.tall);
      this.outlineSlot(context, 0, this.tall);
    }
    this.cursor(context);
  }

  paintStill(context) {
    drawHeat(context, this.table, GUTTER, 0, this.plot, this.tall, this.view.colours);
    const { rows, names } = this.table;
    names?.forEach((name, row) => this.label(context, name, ((row + 0.5) * this.tall) / rows));
  }

  /** The chosen step, and the step that it is compared with. */
  cursor(context) {
    const { step, other } = this.view.steps();
    const { accent, ink } = this.view.colours;
    if (other !== undefined) this.line(context, other, ink, [3, 3]);
    this.line(context, step, accent, []);
  }

  line(context, step, colour, dashes) {
    const wide = this.plot / this.table.columns;
    context.strokeStyle = colour;
    context.lineWidth = 1.5;
    context.setLineDash(dashes);
    context.beginPath();
    for (const x of wide > 5 ? [this.x(step), this.x(step + 1)] : [this.x(step + 0.5)]) {
      const inside = Math.min(Math.max(x, GUTTER + 0.75), this.width - 0.75);
      context.moveTo(inside, 0);
      context.lineTo(inside, this.tall);
    }
    context.stroke();
    context.setLineDash([]);
  }

  at(x, y) {
    if (x < GUTTER || x > this.width || y < 0 || y > this.tall) return null;
    const { columns, rows, slots, text } = this.table;
    const step = Math.min(columns - 1, Math.floor(((x - GUTTER) * columns) / this.plot));
    const row = Math.min(rows - 1, Math.floor((y * rows) / this.tall));
    return { step, ...(slots && { slot: row }), text: text(row, step) };
  }

  chosen() {
    const row = this.table.slots ? (this.state.slot ?? 0) : 0;
    const y = ((row + 0.5) * this.tall) / this.table.rows;
    return [this.x(this.view.steps().step + 0.5), y];
  }
}

/** The shares of the ways of reading, one row per head, stacked in three colours. */
class ModesPanel extends TimePanel {
  paintStill(context) {
    const { rows, columns, shares } = this.table;
    const tall = this.tall / rows;
    const pixel = (x) => Math.round(x * this.density) / this.density;
    for (let row = 0; row < rows; row++) {
      for (let step = 0; step < columns; step++) {
        const [x, end] = [pixel(this.x(step)), pixel(this.x(step + 1))];
        let y = row * tall + 1;
        shares(row, step).forEach((share, way) => {
          context.fillStyle = WAY_COLOURS[way];
          context.fillRect(x, y, Math.max(end - x, 1 / this.density), share * (tall - 2));
          y += share * (tall - 2);
        });
      }
      this.label(context, `head ${row}`, (row + 0.5) * tall);
    }
  }
}

/** The numbers of some steps, and of the chosen one. */
class AxisPanel extends TimePanel {
  paint(context) {
    const { columns } = this.table;
    const { step: chosen } = this.view.steps();
    const every = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 1e4].find(
      (steps) => (steps * this.plot) / columns > 34,
    );
    this.label(context, "step", this.tall / 2);
    context.textAlign = "center";
    const middle = (step) => clampWithin(this.x(step + 0.5), GUTTER + 3, this.width - 14);
    for (let step = 0; step < columns; step += every) {
      const free = Math.abs(middle(step) - middle(chosen)) > 30;
      if (free) context.fillText(String(step), middle(step), this.tall / 2);
    }
    context.fillStyle = this.view.colours.accent;
    context.fillRect(middle(chosen) - 15, 1, 30, this.tall - 2);
    context.fillStyle = this.view.colours.surface;
    context.fillText(String(chosen), middle(chosen), this.tall / 2 + 0.5);
  }
}

/** The panels of the sequence: inputs, targets, outputs, and which steps count. */
function sequencePanels(view) {
  const { recording } = view;
  const parts = ["inputs", "targets", "outputs"].filter((part) => recording.has(part));
  const panels = parts.map((part) => {
    const isLogits = part === "outputs" && recording.outputs_are_logits;
    const title = part[0].toUpperCase() + part.slice(1) + (isLogits ? " (logits)" : "");
    return heatOf(view, part, title, part, { unit: "channel", what: "channels by time" });
  });
  if (recording.has("mask")) {
    const title = "Counts in the loss";
    panels.push(heatOf(view, "mask", title, "mask", { tall: 12, what: "1 for steps that count" }));
  }
  return [...panels, axisPanel(view, "sequence-axis")];
}

/** The panels of the memory over time: weightings, usage, gates, modes, strengths. */
function timePanels(view) {
  const { sizes } = view.recording;
  const { read_heads: readHeads, write_heads: writeHeads } = sizes;
  const each = (count, make) => Array.from({ length: count }, (_, head) => make(head));
  const many = (count, head) => (count > 1 ? `, head ${head}` : "");
  const slots = (id, title, name, heads, head) =>
    heatOf(view, id, title, name, { heads, head, unit: "slot", what: "slots by time" });
  return [
    ...each(writeHeads, (head) =>
      slots(
        `write-${head}`,
        `Write weights${many(writeHeads, head)}`,
        "write_weights",
        writeHeads,
        head,
      ),
    ),
    ...each(readHeads, (head) =>
      slots(
        `read-${head}`,
        `Read weights${many(readHeads, head)}`,
        "read_weights",
        readHeads,
        head,
      ),
    ),
    slots("usage", "Usage before the write", "usage", 1, 0),
    ...each(writeHeads, (head) =>
      slots(
        `allocation-${head}`,
        `Allocation weights: free slots to write to${many(writeHeads, head)}`,
        "allocation_weights",
        writeHeads,
        head,
      ),
    ),
    ...(sizes.directions ? [modesPanel(view)] : []), // without links every read is by content
    rowsPanel(
      view,
      "gates",
      "Gates",
      { free: "free_gate", allocate: "allocation_gate", write: "write_gate" },
      1,
    ),
    rowsPanel(view, "strengths", "Strengths of lookups by content", {
      read: "read_strengths",
      write: "write_strengths",
    }),
    axisPanel(view, "time-axis"),
  ];
}

/** A heat map of one array, or of one head of an array. */
function heatOf(view, id, title, name, { heads = 1, head = 0, unit, tall, what }) {
  const { recording } = view;
  const { shape } = recording.arrays[name];
  const rows = shape.length > 1 ? shape.at(-1) : 1;
  const read = recording.reader(name);
  const value = (row, step) => read((step * heads + head) * rows + row);
  const slots = unit === "slot";
  const where = unit ? (row) => ` · ${unit} ${row}` : () => "";
  const of = heads > 1 || /_weights/.test(name) ? ` · head ${head}` : "";
  const text = (row, step) =>
    [
      `${name.replaceAll("_", " ")} ${rounded(value(row, step))}${where(row)}${of} · step ${step}`,
      slots ? holding(recording, row, step) : recording.words?.[name]?.[step],
    ]
      .filter(Boolean)
      .join("\n");
  const height =
    tall ?? Math.round(Math.min(slots ? 132 : 66, Math.max(slots ? 72 : 24, rows * 7)));
  const scale = slots ? { ramp: "weight", most: 1 } : scaleOf(view.app.range(name));
  const mean = name === "usage";
  const table = { rows, value, scale, slots, what, text, mean };
  return new TimePanel(view, id, title, table, height);
}

/** Numbers of heads by time, one row each; `arrays` maps the names of the rows to arrays. The
 * colours end at `highest`, or else at the largest of these numbers. */
function rowsPanel(view, id, title, arrays, highest) {
  const { recording } = view;
  const lines = Object.entries(arrays).flatMap(([short, name]) => {
    const heads = recording.arrays[name].shape[1];
    const read = recording.reader(name);
    return Array.from({ length: heads }, (_, head) => ({
      name: heads > 1 ? `${short} ${head}` : short,
      longName: `${name.replaceAll("_", " ")}, head ${head}`,
      value: (step) => read(step * heads + head),
    }));
  });
  const most =
    highest ?? Math.max(...Object.values(arrays).map((name) => view.app.range(name)[1]));
  const table = {
    rows: lines.length,
    names: lines.map((line) => line.name),
    value: (row, step) => lines[row].value(step),
    scale: { ramp: "weight", most },
    text: (row, step) => `${lines[row].longName}: ${rounded(lines[row].value(step))} · step ${step}`,
  };
  return new TimePanel(view, id, title, table, 14 * lines.length);
}

function modesPanel(view) {
  const { recording } = view;
  const { read_heads: rows, directions } = recording.sizes;
  const read = recording.reader("read_mode");
  const shares = (row, step) => {
    const start = (step * rows + row) * (2 * directions + 1);
    const sum = (from, count) =>
      Array.from({ length: count }, (_, i) => read(start + from + i)).reduce((a, b) => a + b, 0);
    return [sum(0, directions), sum(directions, directions), sum(2 * directions, 1)];
  };
  const text = (row, step) => {
    const parts = shares(row, step).map((share, way) => `${WAYS[way]} ${rounded(share)}`);
    return `${parts.join(", ")} · head ${row} · step ${step}`;
  };
  const panel = new ModesPanel(view, "modes", "Ways of reading", { rows, shares, text }, 24 * rows);
  panel.caption.append(waysLegend());
  return panel;
}

function waysLegend(lead = "") {
  const keys = WAYS.map((way, number) => {
    const patch = element("i", { class: "patch", style: `background: ${WAY_COLOURS[number]}` });
    return element("span", {}, patch, way);
  });
  return element("span", { class: "legend" }, lead, ...keys);
}

function axisPanel(view, id) {
  const table = { rows: 1, text: (_, step) => `step ${step}`, what: "an axis" };
  const panel = new AxisPanel(view, id, "", table, 18);
  panel.canvas.setAttribute("aria-label", "Steps, the axis of time");
  return panel;
}
