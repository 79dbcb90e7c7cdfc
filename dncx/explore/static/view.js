"use strict";
// One column: everything about one recording. The page has one, or two to compare.

class View {
  /** `kind` is "whole", or "step" for a column that has only what is of one step. */
  constructor(app, recording, kind) {
    Object.assign(this, { app, recording, kind, panels: [] });
    this.root = element("article", { class: `view ${kind}`, "aria-label": recording.label });
    this.root.append(this.heading(), ...(kind === "whole" ? [this.overTime()] : []), this.atStep());
  }

  get state() {
    return this.app.state;
  }

  /** The step this column shows, the chosen one, and the other one of a comparison of steps. */
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
    const said = whole ? facts(this.recording) : "the same recording";
    const top = [
      element("h2", {}, whole ? label : "Another step"),
      element("p", { class: "facts" }, said),
    ];
    const remarks = whole ? notes.map((note) => element("p", { class: "note" }, note)) : [];
    return element("header", {}, ...top, ...remarks);
  }

  overTime() {
    this.said = element("p", { class: "said" });
    this.transcript = new Transcript(this);
    return element(
      "div",
      { class: "over-time" },
      this.section("Sequence", sequencePanels(this), this.said, this.transcript.box),
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
    const tell = () => column.style.setProperty("--tall", `${column.offsetHeight}px`);
    new ResizeObserver(tell).observe(column);
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

  /** Of memories with several write heads: whose links to show. */
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
  }

  draw() {
    const { step } = this.steps();
    for (const panel of this.panels) panel.draw();
    const wanted = this.kind === "step" ? step : this.state.step;
    const ended = wanted > step ? ` (ended at step ${step})` : "";
    this.stepTitle.textContent = `At step ${wanted}${ended}`;
    if (this.headSelect) this.headSelect.value = String(this.head);
    if (this.kind !== "whole") return;
    this.said.replaceChildren(...this.sayStep(step));
    this.story.draw();
    this.transcript.draw(step);
  }

  sayStep(step) {
    const wrong = this.recording.wrong(step);
    return ["inputs", "targets", "outputs"].flatMap((part) => {
      const said = this.recording.said(part, step);
      const marked = wrong && part === "outputs";
      const value = element(
        "b",
        marked ? { class: "wrong" } : {},
        said || "–",
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

  /** Rolls the list to the last event up to a step, where it does not show it. */
  keepInSight(step) {
    const place = `${this.shown} ${step}`;
    if (this.place === place) return; // somebody may read elsewhere in it
    this.place = place;
    const items = [...this.list.querySelectorAll("[data-step]")];
    const item = items.findLast((one) => Number(one.dataset.step) <= step) ?? items[0];
    if (!item) return;
    const end = item.offsetTop + item.offsetHeight - this.list.clientHeight;
    this.list.scrollTop = clampWithin(this.list.scrollTop, end, item.offsetTop);
  }

  fill(recording, slot) {
    this.shown = slot;
    const there = slot !== null && slot < recording.sizes.slots;
    this.title.textContent = there ? `Slot ${slot}` : "A slot";
    const hint = "Click a slot in any picture, or press ↑ or ↓, to follow it.";
    const events = there ? story(recording, slot) : [];
    const none = there ? "Never sharply written or read." : hint;
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

/** Every step in words, as a table. */
class Transcript {
  constructor(view) {
    const { recording } = view;
    this.parts = ["inputs", "targets", "outputs"].filter(
      (part) => recording.words || recording.has(part),
    );
    const names = ["step", ...this.parts.map((part) => part.slice(0, -1)), "wrote", "read"];
    const head = element("tr", {}, ...names.map((name) => element("th", { scope: "col" }, name)));
    this.rows = Array.from({ length: recording.sizes.steps }, (_, step) => this.row(view, step));
    const table = element(
      "table",
      {},
      element("thead", {}, head),
      element("tbody", {}, ...this.rows),
    );
    this.box = element(
      "div",
      { class: "scroll", tabindex: "0", role: "region", "aria-label": "Transcript" },
      table,
    );
  }

  row(view, step) {
    const { recording } = view;
    const cell = (text, name) => element("td", name ? { class: name } : {}, text);
    const said = this.parts.map((part) => {
      const wrong = part === "outputs" && recording.wrong(step);
      return cell(recording.said(part, step) + (wrong ? " ≠" : ""), wrong ? "wrong" : "word");
    });
    const did = [writesIn, readsIn].map((tell) => cell(tell(recording, step).join("; "), "did"));
    const row = element("tr", {}, element("th", { scope: "row" }, String(step)), ...said, ...did);
    row.addEventListener("click", () => view.choose({ step }));
    return row;
  }

  /** Marks the row of a step, and keeps it in sight. */
  draw(step) {
    if (this.marked === step) return;
    this.rows[this.marked]?.removeAttribute("aria-current");
    this.marked = step;
    const row = this.rows[step];
    row.setAttribute("aria-current", "step");
    const { scrollTop, clientHeight } = this.box;
    const head = this.rows[0].offsetTop;
    const below = row.offsetTop + row.offsetHeight > scrollTop + clientHeight;
    if (below || row.offsetTop - head < scrollTop) {
      const before = this.rows[step - 1]?.offsetHeight ?? 0;
      const room = clientHeight - head - row.offsetHeight;
      this.box.scrollTop = row.offsetTop - head - (before <= room ? before : 0);
    }
  }
}
