"use strict";
// The page: its state, its controls, its keys.

const STILL = matchMedia("(prefers-reduced-motion: reduce)");
const DARK = matchMedia("(prefers-color-scheme: dark)");
const byId = (id) => document.getElementById(id);

class App {
  constructor(recordings) {
    this.recordings = recordings;
    this.state = { recording: 0, compare: "none", pinned: 0, head: 0, ...recordings[0].beginning() };
    this.views = [];
    this.timer = null;
    this.fillChoices();
    this.listen();
    this.nameTheme();
    this.build();
    new ResizeObserver(([{ contentRect }]) => {
      if (contentRect.width !== this.width) this.resize();
    }).observe(byId("views"));
  }

  get recording() {
    return this.recordings[this.state.recording];
  }

  /** The last step of the longest recording shown. */
  get last() {
    return Math.max(...this.shown.map(({ sizes }) => sizes.steps)) - 1;
  }

  /** The number of slots of the largest memory shown. */
  get slots() {
    return Math.max(...this.shown.map(({ sizes }) => sizes.slots));
  }

  /** The lowest and the highest number of an array in all recordings shown. */
  range(name) {
    const ranges = this.shown.filter((one) => one.has(name)).map((one) => one.range(name));
    return [Math.min(...ranges.map(([low]) => low)), Math.max(...ranges.map(([, high]) => high))];
  }

  /** Changes the state, and draws the page at the next frame. */
  set(changes) {
    const before = this.state;
    this.state = { ...before, ...changes };
    const rebuilt = ["recording", "compare"].some((name) => before[name] !== this.state[name]);
    if (rebuilt) this.build();
    this.state.step = clamp(this.state.step, this.last);
    this.state.pinned = clamp(this.state.pinned, this.last);
    if (this.state.slot >= this.slots) this.state.slot = null;
    this.frame ??= requestAnimationFrame(() => this.draw());
  }

  /** Makes the columns for the chosen recordings. */
  build() {
    const { compare, recording } = this.state;
    this.state.head = 0;
    const other = this.recordings[compare];
    this.shown = [...new Set([this.recording, other ?? this.recording])];
    this.views = [new View(this, this.recording, "whole")];
    if (compare === "step") this.views.push(new View(this, this.recording, "step"));
    else if (other) this.views.push(new View(this, other, "whole"));
    const root = byId("views");
    root.className = compare === "none" ? "one" : compare === "step" ? "steps" : "two";
    root.replaceChildren(...this.views.map((view) => view.root));
    byId("recording").value = recording;
    byId("compare").value = compare;
    byId("pinned").hidden = compare !== "step";
    byId("step").max = byId("pinned-step").max = this.last;
    byId("task").textContent = this.recording.task;
    this.resize();
  }

  /** Draws everything for another width or other colours. */
  resize() {
    this.width = byId("views").clientWidth;
    for (const view of this.views) view.resize();
    this.draw();
  }

  draw() {
    cancelAnimationFrame(this.frame);
    this.frame = null;
    for (const view of this.views) view.draw();
    const { step, pinned } = this.state;
    byId("step").value = step;
    byId("step").setAttribute("aria-valuetext", `step ${step}, from 0 to ${this.last}`);
    byId("where").textContent = `step ${step} (0–${this.last})`;
    const field = byId("pinned-step");
    if (field !== document.activeElement) field.value = pinned; // not while the user types in it
    if (!this.timer && this.spoken !== this.sentence()) {
      this.spoken = this.sentence();
      byId("live").textContent = this.spoken;
    }
    const panels = this.views.flatMap((view) => view.panels);
    panels.find((panel) => panel.canvas === document.activeElement)?.showChosen();
  }

  sentence() {
    const { step } = this.views[0].steps();
    const words = sentence(this.recording, step);
    const { slot } = this.state;
    if (slot === null || slot >= this.recording.sizes.slots) return words;
    return `${words} Slot ${slot}: ${holding(this.recording, slot, step) || "not written"}.`;
  }

  go(step) {
    this.set({ step });
  }

  /** The step before the chosen one, or the second step: the first to compare with. */
  neighbour() {
    return this.state.step > 0 ? this.state.step - 1 : 1;
  }

  play() {
    if (this.timer) return this.pause();
    if (this.state.step === this.last) this.go(0);
    const next = () => {
      this.go(this.state.step + 1);
      if (this.state.step === this.last) this.pause();
    };
    this.timer = setInterval(next, 1000 / Number(byId("speed").value));
    this.showPlaying();
  }

  pause() {
    clearInterval(this.timer);
    this.timer = null;
    this.showPlaying();
    this.set({});
  }

  showPlaying() {
    byId("play").setAttribute("aria-label", this.timer ? "Pause" : "Play");
    byId("play").classList.toggle("playing", Boolean(this.timer));
  }

  moveSlot(by) {
    const { slot } = this.state;
    const last = this.slots - 1;
    this.set({ slot: slot === null ? (by > 0 ? 0 : last) : clamp(slot + by, last) });
  }

  clear() {
    this.pause();
    tip();
    this.set({ slot: null });
  }

  setTheme(theme) {
    document.documentElement.dataset.theme = theme;
    this.nameTheme();
    this.resize();
  }

  /** The button is named after the other theme. */
  nameTheme() {
    const other = document.documentElement.dataset.theme === "dark" ? "Light" : "Dark";
    byId("theme").textContent = `${other} theme`;
  }

  fillChoices() {
    const options = () =>
      this.recordings.map(({ label }, i) => element("option", { value: i }, label));
    byId("recording").append(...options());
    byId("compare").append(
      element("option", { value: "none" }, "nothing"),
      element("option", { value: "step" }, "itself at another step"),
      ...options(),
    );
    if (STILL.matches) byId("speed").value = "2";
  }

  listen() {
    const on = (id, event, act) => byId(id).addEventListener(event, act);
    on("recording", "change", (event) => this.set({ recording: Number(event.target.value) }));
    on("compare", "change", (event) =>
      this.set({ compare: event.target.value, pinned: this.neighbour() }),
    );
    on("pinned-step", "input", ({ target }) => {
      if (target.value) this.set({ pinned: Number(target.value) });
    });
    on("pinned-step", "change", ({ target }) => (target.value = this.state.pinned));
    on("step", "input", (event) => this.go(Number(event.target.value)));
    on("first", "click", () => this.go(0));
    on("previous", "click", () => this.go(this.state.step - 1));
    on("play", "click", () => this.play());
    on("next", "click", () => this.go(this.state.step + 1));
    on("last", "click", () => this.go(this.last));
    on("speed", "change", () => this.timer && (this.pause(), this.play()));
    on("save-picture", "click", () => savePicture(this));
    on("theme", "click", () =>
      this.setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark"),
    );
    on("keys", "click", () => byId("help").showModal());
    DARK.addEventListener("change", () => this.setTheme(DARK.matches ? "dark" : "light"));
    document.addEventListener("pointerdown", () => tip());
    document.addEventListener("keydown", (event) => this.key(event));
  }

  key(event) {
    const { target, key, shiftKey } = event;
    if (event.ctrlKey || event.metaKey || event.altKey || byId("help").open) return;
    const isForTarget =
      target.matches("select, [type=number]") ||
      (key === " " && target.matches("button, summary")) ||
      (["ArrowUp", "ArrowDown"].includes(key) && target.matches(".scroll"));
    if (isForTarget && key !== "Escape") return;
    const far = shiftKey ? 10 : 1;
    const acts = {
      ArrowLeft: () => this.go(this.state.step - far),
      ArrowRight: () => this.go(this.state.step + far),
      ArrowUp: () => this.moveSlot(-1),
      ArrowDown: () => this.moveSlot(1),
      Home: () => this.go(0),
      End: () => this.go(this.last),
      " ": () => this.play(),
      Escape: () => this.clear(),
      "?": () => byId("help").showModal(),
    };
    if (!(key in acts)) return;
    event.preventDefault();
    if (!event.repeat || ![" ", "?"].includes(key)) acts[key]();
  }
}

function clamp(number, last) {
  return Math.max(0, Math.min(last, Math.round(number) || 0));
}

async function start() {
  document.documentElement.dataset.theme = DARK.matches ? "dark" : "light";
  try {
    window.dncx = new App(await loadRecordings());
  } catch (error) {
    byId("views").textContent = `This page cannot be shown: ${error.message}`;
    throw error;
  }
  performance.mark("drawn");
}

start();
