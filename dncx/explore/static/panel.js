"use strict";
// A panel: a caption and a canvas that can be hovered, clicked, dragged over, focused.

const GUTTER = 66; // pixels left of every picture, for its labels
const THIN = 6; // pixels of a row that a line on its edges would hide
const FONT = '11px system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif';

/** An element with its attributes and children. */
function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** What all panels share. Each kind of panel has `height()`, `paint(context)` and `at(x, y)`, which
 * returns what is under a point: {step, slot, text}, all of them optional. A panel that shows
 * numbers in colour has their `scale`. */
class Panel {
  constructor(view, id, title, description) {
    Object.assign(this, { view, id, title, recording: view.recording });
    this.canvas = element("canvas", {
      role: "img",
      tabindex: "0",
      "aria-label": description,
      "aria-describedby": "tip",
    });
    this.canvas.dataset.panel = id;
    this.caption = element("figcaption", {}, title);
    this.figure = element("figure", {}, ...(title ? [this.caption] : []), this.canvas);
    this.listen();
  }

  get state() {
    return this.view.state;
  }

  /** Takes the size of its place, and drops what was drawn for another size. */
  resize() {
    const density = window.devicePixelRatio || 1;
    this.width = this.figure.clientWidth;
    this.plot = this.width - GUTTER;
    this.tall = this.height();
    this.canvas.width = Math.round(this.width * density);
    this.canvas.height = Math.round(this.tall * density);
    this.canvas.style.height = `${this.tall}px`;
    this.density = density;
    this.still = null;
    this.showKey();
  }

  showKey() {
    this.key?.remove();
    if (!this.scale) return;
    this.key = colourKey(this.scale, this.view.colours);
    this.caption.firstChild.after(this.key);
  }

  draw() {
    if (!(this.plot > 0)) return;
    const context = this.canvas.getContext("2d");
    this.prepare(context);
    context.clearRect(0, 0, this.width, this.tall);
    this.paint(context);
  }

  prepare(context) {
    context.setTransform(this.density, 0, 0, this.density, 0, 0);
    context.font = FONT;
    context.textBaseline = "middle";
  }

  /** Draws once what is the same at every step. */
  background(context, paint) {
    if (!this.still) {
      this.still = newCanvas(this.canvas.width, this.canvas.height);
      const beneath = this.still.getContext("2d");
      this.prepare(beneath);
      paint(beneath);
    }
    context.drawImage(this.still, 0, 0, this.width, this.tall);
  }

  label(context, text, y, colour = this.view.colours.muted) {
    context.fillStyle = colour;
    context.textAlign = "right";
    context.fillText(text, GUTTER - 8, y, GUTTER - 8);
  }

  /** Labels of slots: as many round numbers as there is space for, and the chosen slot. */
  slotLabels(context, count, height, top = 0) {
    const every = [1, 2, 4, 5, 8, 10, 16, 20, 32, 50, 64, 100, 128].find(
      (step) => (step * height) / count >= 13,
    );
    const [high, low] = [top ? 0 : 6, top + height < this.tall ? height : height - 6];
    const middle = (slot) => top + clampWithin(((slot + 0.5) * height) / count, high, low);
    const chosen = this.state.slot !== null && this.state.slot < count ? this.state.slot : null;
    for (let slot = 0; slot < count; slot += every ?? count) {
      const free = chosen === null || Math.abs(middle(slot) - middle(chosen)) > 11;
      if (free) this.label(context, String(slot), middle(slot));
    }
    if (chosen !== null)
      this.label(context, String(chosen), middle(chosen), this.view.colours.accent);
  }

  /** A box around the chosen slot. It leaves thin rows free, as it would hide them. */
  outlineSlot(context, top, height, x = GUTTER, width = this.plot) {
    const { slot } = this.state;
    const count = this.recording.sizes.slots;
    if (slot === null || slot >= count) return;
    const tall = height / count;
    const y = top + slot * tall;
    context.strokeStyle = this.view.colours.accent;
    context.lineWidth = 1.5;
    if (tall < THIN) context.strokeRect(x + 0.75, y - 1.75, width - 1.5, tall + 3.5);
    else {
      const inside = clampWithin(y, 0.75, this.tall - tall - 0.75);
      context.strokeRect(x + 0.75, inside, width - 1.5, tall);
    }
  }

  listen() {
    const { canvas } = this;
    let pressed = null; // where the pointer went down, until it goes up
    let dragged = false;
    const place = (event) => {
      const box = canvas.getBoundingClientRect();
      const [x, y] = [event.clientX - box.left, event.clientY - box.top];
      if (!dragged) return this.at(x, y) ?? {};
      return this.at(clampWithin(x, GUTTER, this.width), clampWithin(y, 0, this.tall)) ?? {};
    };
    const release = () => {
      pressed = null;
    };
    canvas.addEventListener("pointerdown", (event) => {
      dragged = false;
      if (event.button) return;
      pressed = event.clientX;
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (pressed === null) dragged = false;
      else if (Math.abs(event.clientX - pressed) > 4) dragged = true;
      const under = place(event);
      tip(under.text, event.clientX, event.clientY);
      if (dragged && under.step !== undefined) this.view.choose({ step: under.step });
    });
    canvas.addEventListener("pointerup", release);
    canvas.addEventListener("pointercancel", release);
    canvas.addEventListener("click", (event) => {
      if (!dragged) this.view.choose(place(event));
      tip(place(event).text, event.clientX, event.clientY);
      dragged = false;
    });
    canvas.addEventListener("pointerleave", () => tip());
    canvas.addEventListener("focus", () => this.showChosen());
    canvas.addEventListener("blur", () => tip());
  }

  /** Shows the numbers at the chosen step and slot, for users of the keyboard. */
  showChosen() {
    const point = this.canvas.matches(":focus-visible") && this.chosen();
    if (!point) return;
    const box = this.canvas.getBoundingClientRect();
    tip(this.at(...point)?.text, box.left + point[0], box.top + point[1]);
  }
}

function clampWithin(number, low, high) {
  return Math.max(low, Math.min(high, number));
}

/** Shows a text next to a point of the window; without a text, hides the box. */
function tip(text, x, y) {
  const box = document.getElementById("tip");
  box.hidden = !text;
  if (!text) return;
  box.textContent = text;
  const { width, height } = box.getBoundingClientRect();
  box.style.left = `${Math.max(4, Math.min(x + 14, window.innerWidth - width - 4))}px`;
  box.style.top = `${y + 18 + height > window.innerHeight ? y - height - 12 : y + 18}px`;
}
