"use strict";
// A zip archive of NumPy arrays, uncompressed, as numpy.load opens it.

const CRC = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  return crc;
});

function crc32(bytes) {
  let crc = ~0;
  for (const byte of bytes) crc = (crc >>> 8) ^ CRC[(crc ^ byte) & 255];
  return ~crc >>> 0;
}

/** An array of float32 as the bytes of an .npy file, format 1.0. */
function npy(numbers, shape) {
  const axes = shape.length === 1 ? `${shape[0]},` : shape.join(", ");
  const told = `{'descr': '<f4', 'fortran_order': False, 'shape': (${axes}), }`;
  const header = `${told.padEnd(Math.ceil((told.length + 11) / 64) * 64 - 11)}\n`;
  const bytes = new Uint8Array(10 + header.length + numbers.byteLength);
  bytes.set([0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59, 1, 0, header.length & 255, header.length >> 8]);
  bytes.set(new TextEncoder().encode(header), 10);
  bytes.set(new Uint8Array(numbers.buffer), 10 + header.length);
  return bytes;
}

/** Little-endian numbers, each with its size in bytes. */
function fields(...pairs) {
  return pairs.flatMap(([size, number]) =>
    Array.from({ length: size }, (_, byte) => (number / 2 ** (8 * byte)) & 255),
  );
}

/** A zip archive, not compressed, of files given as [name, bytes]. */
function zip(files) {
  const parts = [];
  const directory = [];
  let offset = 0;
  for (const [name, bytes] of files) {
    const said = [...new TextEncoder().encode(name)];
    const [crc, size] = [crc32(bytes), bytes.length];
    const both = fields(
      [2, 20],
      [2, 0],
      [2, 0],
      [4, 0x210000],
      [4, crc],
      [4, size],
      [4, size],
      [2, said.length],
      [2, 0],
    );
    const local = new Uint8Array([...fields([4, 0x04034b50]), ...both, ...said]);
    const entry = fields([4, 0x02014b50], [2, 20]);
    directory.push(
      ...entry,
      ...both,
      ...fields([2, 0], [2, 0], [2, 0], [4, 0], [4, offset]),
      ...said,
    );
    parts.push(local, bytes);
    offset += local.length + size;
  }
  const count = files.length;
  const end = fields(
    [4, 0x06054b50],
    [2, 0],
    [2, 0],
    [2, count],
    [2, count],
    [4, directory.length],
    [4, offset],
    [2, 0],
  );
  return new Blob([...parts, new Uint8Array([...directory, ...end])], { type: "application/zip" });
}
