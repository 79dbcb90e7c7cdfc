"use strict";
// One column: everything about one recording. The page has one, or two to compare.

const TRANSCRIPT_HEIGHT = 236; // pixels

class View {
  /** `kind` is "whole", or "step" for a column that shows only one step. */
  constructor(app, recording, kind) {
    Object.assign(this, { app, recording, kind, panels: [] });
    this.root = element("article", { class: `view ${kind}`, "aria-label": recording.label });
    this.root.append(this.heading(), ...(kind === "whole" ? [this.overTime()] : []), this.atStep());
  }

  get state() {
    return this.app.state;
  }

  /** The step this column shows, the chosen one, and in a comparison of steps the other one. */
  steps() {
    const last = this.recording.sizes.steps - 1;
    const chosen = Math.min(this.state.step, last);
    const pinned = Math.min(this.state.pinned, last);
    if (this.kind === "step") return { step: pinned, chosen };
    return { step: chosen, chosen, other: this.state.compare === "step" ? pinned : undefined };
  }

  choose(changes) {
    const { step, slot } = changes;
    this.app.set({ ...(step !== undefined && { step }), ...(slot !== undefined && { slot }) });
  }

  heading() {
    const { label, notes } = this.recording;
    const whole = this.kind === "whole";
    const top = [
      element("h2", {}, whole ? label : "The same recording"),
      element("p", { class: "facts" }, whole ? facts(this.recording) : "at another step"),
    ];
    const remarks = whole ? notes.map((note) => element("p", { class: "note" }, note)) : [];
    return element("header", {}, ...top, ...remarks);
  }

  overTime() {
    this.current = element("p", { class: "current" });
    this.transcript = new Transcript(this);
    return element(
      "div",
      { class: "over-time" },
      this.section("Sequence", sequencePanels(this), this.current, this.transcript.box),
      this.section("Memory over time", timePanels(this)),
    );
  }

  atStep() {
    const memory = new MemoryPanel(this);
    memory.caption.append(waysLegend("read by"));
    const step = this.section("At step", [memory]);
    this.stepTitle = step.querySelector("h3");
    const order = [];
    if (this.recording.chainCodes) order.push(new ChainPanel(this));
    if (this.recording.has("link")) order.push(new LinkPanel(this));
    const column = element(
      "div",
      { class: "at-step" },
      step,
      this.kind === "whole" ? this.slotStory() : this.difference(),
      ...(order.length ? [this.section("Order of writing", order, ...this.headChoice())] : []),
    );
    const measure = () => column.style.setProperty("--tall", `${column.offsetHeight}px`);
    new ResizeObserver(measure).observe(column);
    return column;
  }

  slotStory() {
    this.story = new Story(this);
    return this.story.root;
  }

  difference() {
    return this.section("Difference", [new DifferencePanel(this)]);
  }

  /** The write head whose links are shown. */
  get head() {
    return Math.min(this.state.head, this.recording.sizes.write_heads - 1);
  }

  /** A choice of the write head whose links are shown, if there are several. */
  headChoice() {
    const { write_heads: heads } = this.recording.sizes;
    if (heads === 1) return [];
    const options = Array.from({ length: heads }, (_, head) =>
      element("option", { value: head }, `head ${head}`),
    );
    const select = element("select", {}, ...options);
    this.headSelect = select;
    select.addEventListener("change", () => this.app.set({ head: Number(select.value) }));
    return [element("label", {}, "Links of write ", select)];
  }

  section(title, panels, ...others) {
    this.panels.push(...panels);
    const figures = panels.map((panel) => panel.figure);
    return element("section", {}, element("h3", {}, title), ...figures, ...others);
  }

  resize() {
    this.colours = palette();
    for (const panel of this.panels) panel.resize();
    this.transcript?.resize();
  }

  draw() {
    const { step } = this.steps();
    for (const panel of this.panels) panel.draw();
    const wanted = this.kind === "step" ? step : this.state.step;
    const ended = wanted > step ? ` (ended at step ${step})` : "";
    this.stepTitle.textContent = `At step ${wanted}${ended}`;
    if (this.headSelect) this.headSelect.value = String(this.head);
    if (this.kind !== "whole") return;
    this.current.replaceChildren(...this.wordsOf(step));
    this.story.draw();
    this.transcript.draw(step);
  }

  /** The input, target and output of a step. */
  wordsOf(step) {
    const wrong = this.recording.wrong(step);
    return ["inputs", "targets", "outputs"].flatMap((part) => {
      const marked = wrong && part === "outputs";
      const value = element(
        "b",
        marked ? { class: "wrong" } : {},
        this.recording.text(part, step) || "–",
        marked ? " ≠ target" : "",
      );
      return [element("span", {}, `${part.slice(0, -1)} `, value)];
    });
  }
}

/** What happened to the chosen slot. */
class Story {
  constructor(view) {
    this.view = view;
    this.title = element("h3", {});
    this.list = element("ol", { class: "story" });
    this.root = element("section", {}, this.title, this.list);
  }

  draw() {
    const { state, recording } = this.view;
    const { step } = this.view.steps();
    if (this.shown !== state.slot) this.fill(recording, state.slot);
    for (const item of this.list.querySelectorAll("[aria-current]"))
      item.removeAttribute("aria-current");
    for (const item of this.list.querySelectorAll(`[data-step="${step}"]`))
      item.setAttribute("aria-current", "step");
    this.keepInSight(step);
  }

  /** Scrolls the list so that it shows the last event up to a step. */
  keepInSight(step) {
    const place = `${this.shown} ${step}`;
    if (this.place === place) return; // the user may have scrolled
    this.place = place;
    const items = [...this.list.querySelectorAll("[data-step]")];
    const item = items.findLast((one) => Number(one.dataset.step) <= step) ?? items[0];
    if (!item) return;
    const end = item.offsetTop + item.offsetHeight - this.list.clientHeight;
    this.list.scrollTop = clampWithin(this.list.scrollTop, end, item.offsetTop);
  }

  fill(recording, slot) {
    this.shown = slot;
    const exists = slot !== null && slot < recording.sizes.slots;
    this.title.textContent = exists ? `Slot ${slot}` : "No slot chosen";
    const hint = "Click a slot in any picture, or press ↑ or ↓, to follow it.";
    const events = exists ? story(recording, slot) : [];
    const none = exists ? "This slot never got more than half of a write or a read." : hint;
    this.list.replaceChildren(
      ...events.map((event) => this.item(event)),
      ...(events.length ? [] : [element("li", { class: "hint" }, none)]),
    );
  }

  item({ step, kind, text }) {
    if (kind === "kept") return element("li", { class: kind }, text);
    const button = element("button", { type: "button" }, text);
    button.addEventListener("click", () => this.view.choose({ step }));
    return element("li", { class: kind, "data-step": step }, button);
  }
}

/** Every step in words: a table in a box that ends between two rows. */
class Transcript {
  constructor(view) {
    const { recording } = view;
    this.parts = ["inputs", "targets", "outputs"].filter(
      (part) => recording.words || recording.has(part),
    );
    const names = ["step", ...this.parts.map((part) => part.slice(0, -1)), "wrote", "read"];
    const head = element("tr", {}, ...names.map((name) => element("th", { scope: "col" }, name)));
    this.rows = Array.from({ length: recording.sizes.steps }, (_, step) => this.row(view, step));
    this.table = element(
      "table",
      { style: `--parts: ${this.parts.length}` },
      element("thead", {}, head),
      element("tbody", {}, ...this.rows),
    );
    this.scroll = element(
      "div",
      { class: "scroll", tabindex: "0", role: "region", "aria-label": "Transcript" },
      this.table,
    );
    this.box = element("div", { class: "transcript" }, this.scroll);
    this.scroll.addEventListener("scroll", () => this.endAfterWholeRows());
  }

  row(view, step) {
    const { recording } = view;
    const words = this.parts.map((part) => {
      const wrong = part === "outputs" && recording.wrong(step);
      const text = recording.text(part, step) + (wrong ? " ≠" : "");
      return element("td", { class: wrong ? "wrong" : "word" }, text);
    });
    const wrote = writesAreSpread(recording, step)
      ? ["spread over several slots"]
      : writesIn(recording, step);
    const row = element(
      "tr",
      {},
      element("th", { scope: "row" }, String(step)),
      ...words,
      this.events("wrote", wrote),
      this.events("read", readsIn(recording, step)),
    );
    row.addEventListener("click", () => view.choose({ step }));
    return row;
  }

  /** A cell with one line per event. Its label is shown where the columns have no names. */
  events(name, lines) {
    const cell = element("td", { class: "did" });
    if (!lines.length) return cell;
    const list = element("div", {}, ...lines.map((line) => element("div", {}, line)));
    cell.append(element("span", { class: "name" }, `${name} `), list);
    return cell;
  }

  /** Marks the row of a step, and keeps it in sight. */
  draw(step) {
    if (this.marked === step) return;
    this.rows[this.marked]?.removeAttribute("aria-current");
    this.marked = step;
    this.rows[step].setAttribute("aria-current", "step");
    const { scrollTop, clientHeight } = this.scroll;
    const end = scrollTop + clientHeight - this.headHeight;
    if (this.top(step) < scrollTop - 1 || this.bottom(step) > end + 1) this.showAt(step);
  }

  /** Fits the rows into another width. */
  resize() {
    this.showAt(this.marked ?? 0);
  }

  /** Shows the row of a step below the one before it, and at the end as many as fit. */
  showAt(step) {
    let first = step > 0 && this.fit(step - 1, step) ? step - 1 : step;
    while (first > 0 && this.fit(first - 1, this.rows.length - 1)) first -= 1;
    this.endAfterWholeRows(first);
    this.scroll.scrollTop = this.top(first);
  }

  /** Makes the box so high that it cuts no row. */
  endAfterWholeRows(first = this.firstInSight()) {
    let last = first;
    while (last + 1 < this.rows.length && this.fit(first, last + 1)) last += 1;
    this.scroll.style.height = `${this.headHeight + this.bottom(last) - this.top(first)}px`;
    this.scroll.style.scrollPaddingTop = `${this.headHeight}px`;
  }

  /** Whether the box has room for the rows of all steps from `first` to `last`. */
  fit(first, last) {
    return this.headHeight + this.bottom(last) - this.top(first) <= TRANSCRIPT_HEIGHT;
  }

  firstInSight() {
    const { scrollTop } = this.scroll;
    const first = this.rows.findIndex((_, step) => this.top(step) >= scrollTop - 1);
    return Math.max(0, first);
  }

  get headHeight() {
    return this.rows[0].getBoundingClientRect().top - this.table.getBoundingClientRect().top;
  }

  /** Where a row begins, in pixels below the first row; rows may end between two pixels. */
  top(step) {
    const [first, row] = [this.rows[0], this.rows[step]].map((one) => one.getBoundingClientRect());
    return row.top - first.top;
  }

  bottom(step) {
    return this.top(step) + this.rows[step].getBoundingClientRect().height;
  }
}
