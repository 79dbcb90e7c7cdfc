"use strict";
// Colours of numbers, and how a table of numbers becomes a picture.

const RAMPS = {
  light: {
    weight: ["#f4f6f8", "#d3e1ed", "#9fc0dc", "#659ac6", "#3372a8", "#154b80", "#062650"],
    signed: ["#0d4a8a", "#4f8cc4", "#a9c8e2", "#f4f6f8", "#f3c08b", "#d9822b", "#8f4400"],
  },
  dark: {
    weight: ["#171c22", "#14365a", "#1b5a87", "#2e82a3", "#62aab0", "#a9d0b8", "#f4f0c6"],
    signed: ["#a8d3ff", "#4e95d9", "#1f4f80", "#171c22", "#7a4512", "#d9822b", "#ffd09a"],
  },
};
const WAYS = ["backward", "forward", "content"];
const WAY_COLOURS = ["#0072b2", "#e69f00", "#009e73"]; // of Okabe and Ito

/** The colours of the current theme: ramps as tables of 256 pixels, the others as in CSS. */
function palette() {
  const root = document.documentElement;
  const style = getComputedStyle(root);
  const named = (name) => style.getPropertyValue(`--${name}`).trim();
  const ramps = RAMPS[root.dataset.theme];
  return {
    weight: pixelTable(ramps.weight),
    signed: pixelTable(ramps.signed),
    ...Object.fromEntries(
      ["ink", "muted", "rule", "surface", "accent"].map((name) => [name, named(name)]),
    ),
  };
}

/** 256 pixels between evenly spaced colours, as ImageData stores them. */
function pixelTable(stops) {
  const colours = stops.map((stop) => [1, 3, 5].map((at) => parseInt(stop.slice(at, at + 2), 16)));
  return Uint32Array.from({ length: 256 }, (_, code) => {
    const place = (code / 255) * (colours.length - 1);
    const from = Math.min(Math.floor(place), colours.length - 2);
    const mix = colours[from].map((c, i) => c + (colours[from + 1][i] - c) * (place - from));
    return (
      (255 << 24) | (Math.round(mix[2]) << 16) | (Math.round(mix[1]) << 8) | Math.round(mix[0])
    );
  });
}

function cssColour(pixel) {
  return `rgb(${pixel & 255}, ${(pixel >> 8) & 255}, ${(pixel >> 16) & 255})`;
}

/** The scale of a heat map: one ramp from 0 up, or two from 0 both ways. */
function scaleOf([low, high]) {
  const signed = low < 0;
  return { ramp: signed ? "signed" : "weight", most: Math.max(-low, high) || 1 };
}

/** The key of a heat map: its ramp, between the lowest and the highest number of its scale. */
function colourKey({ ramp, most }, colours) {
  const [low, high] = [ramp === "signed" ? `−${rounded(most)}` : "0", rounded(most)];
  const canvas = newCanvas(256, 1);
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `colours from ${low} to ${high}`);
  const pixels = new Uint8ClampedArray(colours[ramp].buffer);
  canvas.getContext("2d").putImageData(new ImageData(pixels, 256, 1), 0, 0);
  return element("span", { class: "key" }, low, canvas, high);
}

function codeOf(number, { ramp, most }) {
  const share = Math.max(-1, Math.min(1, number / most));
  return Math.round(ramp === "signed" ? (share + 1) * 127.5 : Math.max(0, share) * 255);
}

/** Numbers [rows, columns] as a small canvas, one pixel per number. If there are more numbers than
 * `height` or `width`, each pixel shows the number furthest from 0 of those that it covers, so that
 * a sharp write never vanishes; with `mean` it shows their mean, so that half of the slots do not
 * look like all of them. */
function heatImage(table, width, height, colours) {
  const { rows, columns, scale } = table;
  const tall = Math.max(1, Math.min(rows, Math.floor(height)));
  const wide = Math.max(1, Math.min(columns, Math.floor(width)));
  const canvas = newCanvas(wide, tall);
  const image = new ImageData(wide, tall);
  const ramp = colours[scale.ramp];
  const pixels = new Uint32Array(image.data.buffer);
  pooled(table, wide, tall).forEach((number, place) => {
    pixels[place] = ramp[codeOf(number, scale)];
  });
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

/** The numbers of a table, [tall, wide]: see `heatImage`. */
function pooled({ value, rows, columns, mean }, wide, tall) {
  const found = new Float32Array(tall * wide);
  const counts = new Float32Array(tall * wide);
  for (let row = 0; row < rows; row++) {
    const start = Math.floor((row * tall) / rows) * wide;
    for (let column = 0; column < columns; column++) {
      const place = start + Math.floor((column * wide) / columns);
      const number = value(row, column);
      counts[place] += 1;
      if (mean) found[place] += (number - found[place]) / counts[place];
      else if (Math.abs(number) > Math.abs(found[place])) found[place] = number;
    }
  }
  return found;
}

function newCanvas(width, height) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  return canvas;
}

function drawHeat(context, table, x, y, width, height, colours) {
  const { a: density } = context.getTransform();
  const image = heatImage(table, width * density, height * density, colours);
  context.imageSmoothingEnabled = false;
  context.drawImage(image, x, y, width, height);
}
