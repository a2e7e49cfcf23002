// Draws every icon from mark.svg: node icons/make.mjs
import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const cli = '@tauri-apps/cli@2.12.5';
const here = dirname(fileURLToPath(import.meta.url));
const source = readFileSync(join(here, 'mark.svg'), 'utf8');
const work = mkdtempSync(join(tmpdir(), 'icons-'));

/** Draws a symbol at the given sizes; without sizes, whatever an app needs. Gives the folder. */
function draw(symbol, sizes = []) {
  const svg = join(work, `${symbol}.svg`);
  writeFileSync(svg, source.replace('</svg>', `<use href="#${symbol}" width="1024" height="1024" /></svg>`));
  const out = join(work, symbol);
  mkdirSync(out);
  const pngs = sizes.flatMap((size) => ['--png', String(size)]);
  execFileSync('npx', ['--yes', cli, 'icon', svg, '--output', out, ...pngs], { stdio: 'inherit' });
  return out;
}

const app = draw('app');
for (const name of ['icon.icns', 'icon.ico', 'icon.png', '32x32.png', '128x128.png', '128x128@2x.png']) {
  copyFileSync(join(app, name), join(here, name));
}
// 18 points at twice the resolution; macOS scales them down where it must.
mkdirSync(join(here, 'tray'), { recursive: true });
for (const state of ['idle', 'working', 'lan', 'error']) {
  copyFileSync(join(draw(state, [36]), '36x36.png'), join(here, 'tray', `${state}.png`));
}
rmSync(work, { recursive: true });
