// What Xvfb shows, from the file it draws into (-fbdir): an XWD header, big-endian, then colours, then pixels.
import { openSync, readSync } from 'node:fs';
import { join } from 'node:path';

/** Rows that are looked at: every so many of them. */
const STEP = 4;
/** Title bar, borders and shadows, which are not the page's. */
const TITLE = 64;
const BORDER = 32;

export class Screen {
  #file;
  #pixels;
  #before;

  constructor(folder) {
    this.#file = openSync(join(folder, 'Xvfb_screen0'), 'r');
    const header = Buffer.alloc(100);
    readSync(this.#file, header, 0, 100, 0);
    const field = (n) => header.readUInt32BE(4 * n);
    Object.assign(this, { width: field(4), height: field(5), stride: field(12) });
    this.#pixels = field(0) + 12 * field(19);
    this.#before = this.#rows();
  }

  /** Takes what is shown now for the empty screen. */
  clear() {
    this.#before = this.#rows();
  }

  /** Whether there is a window, and whether something is drawn inside it. */
  look() {
    const now = this.#rows();
    const changed = now.map((row, y) => !row.equals(this.#before[y]));
    const [top, bottom] = [changed.indexOf(true), changed.lastIndexOf(true)];
    const nothing = { window: false, drawn: false };
    if ((bottom - top) * STEP < 200) return nothing;
    const middle = Math.round((top + bottom) / 2);
    const [row, before] = [pixels(now[middle]), pixels(this.#before[middle])];
    const differs = (pixel, x) => pixel !== before[x];
    const [left, right] = [row.findIndex(differs), row.findLastIndex(differs)];
    if (right - left < 200) return nothing;
    const counts = new Map();
    for (const line of now.slice(top + TITLE / STEP, bottom - BORDER / STEP)) {
      for (const pixel of pixels(line).subarray(left + BORDER, right - BORDER)) {
        counts.set(pixel, (counts.get(pixel) ?? 0) + 1);
      }
    }
    const all = [...counts.values()].reduce((sum, count) => sum + count, 0);
    // Two words are 190 of the pixels that are looked at; an empty window had 60 that are not of one colour.
    return { window: true, drawn: all - Math.max(...counts.values()) > 120 };
  }

  #rows() {
    const rows = [];
    for (let y = 0; y < this.height; y += STEP) {
      const row = Buffer.alloc(4 * this.width);
      readSync(this.#file, row, 0, row.length, this.#pixels + y * this.stride);
      rows.push(row);
    }
    return rows;
  }
}

const pixels = (row) => new Uint32Array(row.buffer, row.byteOffset, row.length / 4);
