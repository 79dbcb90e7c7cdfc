"use strict";
// Saving the view as a picture.

function download(name, blob) {
  const link = element("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

function fileName({ label }, ending) {
  return `${label.replace(/[^\w-]+/g, "-").slice(0, 80)}.${ending}`;
}

/** The visible part of an element, drawn to one canvas: pictures and text. */
function picture(root, density = 2) {
  const frame = root.getBoundingClientRect();
  const margin = 24;
  const canvas = newCanvas(
    (frame.width + 2 * margin) * density,
    (frame.height + 2 * margin) * density,
  );
  const context = canvas.getContext("2d");
  context.scale(density, density);
  context.fillStyle = palette().surface;
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.translate(margin - frame.left, margin - frame.top);
  drawBoxes(context, root);
  for (const drawn of root.querySelectorAll("canvas")) {
    const { left, top, width, height } = drawn.getBoundingClientRect();
    if (width && height) context.drawImage(drawn, left, top, width, height);
  }
  drawText(context, root);
  return canvas;
}

/** Draws patches of colour, the lines above sections, and the background of the chosen step. */
function drawBoxes(context, root) {
  for (const box of root.querySelectorAll(".patch, [aria-current]")) {
    const { left, top, right, bottom } = box.getBoundingClientRect();
    const sight = sightOf(box);
    const highest = Math.max(top, sight.top);
    const width = Math.max(0, Math.min(right, sight.right) - left);
    context.fillStyle = getComputedStyle(box).backgroundColor;
    context.fillRect(left, highest, width, Math.max(0, Math.min(bottom, sight.bottom) - highest));
  }
  for (const title of root.querySelectorAll("h3")) {
    const { left, top, width } = title.getBoundingClientRect();
    context.fillStyle = getComputedStyle(title).borderTopColor;
    context.fillRect(left, top, width, 1);
  }
}

/** The edges between which an element is visible: those of the box that it scrolls in, if any. */
function sightOf(inside) {
  const clip = inside.closest(".scroll, .story");
  if (!clip) return { top: -Infinity, bottom: Infinity, right: Infinity };
  const { top, bottom, right } = clip.getBoundingClientRect();
  const head = inside.closest("tbody") && clip.querySelector("thead th").getBoundingClientRect();
  return { top: head?.bottom ?? top, bottom, right };
}

/** Draws each word of the text where the page shows it. */
function drawText(context, root) {
  const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  const range = document.createRange();
  context.textBaseline = "alphabetic";
  while (walker.nextNode()) {
    const node = walker.currentNode;
    const parent = node.parentElement;
    if (parent.closest("select")) continue;
    const sight = sightOf(parent);
    const style = getComputedStyle(parent);
    context.font = `${style.fontWeight} ${style.fontSize} ${style.fontFamily}`;
    context.fillStyle = style.color;
    for (const word of node.data.matchAll(/\S+/g)) {
      range.setStart(node, word.index);
      range.setEnd(node, word.index + word[0].length);
      const { left, right, top, bottom } = range.getBoundingClientRect();
      if (top < sight.top || bottom > sight.bottom || right > sight.right) continue;
      context.fillText(word[0], left, bottom - (bottom - top) * 0.22);
    }
  }
}

function savePicture(app) {
  const views = byId("views");
  views.classList.add("saving"); // nothing sticks or scrolls
  const canvas = picture(views);
  views.classList.remove("saving");
  canvas.toBlob((blob) => download(fileName(app.recording, "png"), blob));
}
