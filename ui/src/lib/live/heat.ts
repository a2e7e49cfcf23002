import type { ExpertCounts } from '$lib/backend/contract';
import { faded } from '$lib/plot/palette';

/** Few tokens for most experts and many for some: the root keeps both visible. */
export function shades(counts: number[]): number[] {
  const most = Math.max(1, ...counts);
  return counts.map((count) => Math.sqrt(count / most));
}

export function drawHeat(
  canvas: HTMLCanvasElement,
  { layers, experts }: ExpertCounts,
  counts: number[],
  color: string,
  ground: string,
): void {
  const ratio = devicePixelRatio;
  const width = Math.round(canvas.clientWidth * ratio);
  const height = Math.round(canvas.clientHeight * ratio);
  if (canvas.width !== width) canvas.width = width;
  if (canvas.height !== height) canvas.height = height;
  const context = canvas.getContext('2d');
  if (!context) return;
  context.clearRect(0, 0, width, height);
  const cell = { width: width / experts, height: height / layers };
  const gap = cell.width > 4 * ratio ? ratio : 0;
  const levels = shades(counts);
  for (let index = 0; index < levels.length; index += 1) {
    const left = Math.round((index % experts) * cell.width);
    const top = Math.round(Math.floor(index / experts) * cell.height);
    const right = Math.round(((index % experts) + 1) * cell.width);
    const bottom = Math.round((Math.floor(index / experts) + 1) * cell.height);
    const level = levels[index] ?? 0;
    context.fillStyle = level === 0 ? ground : faded(color, 0.12 + 0.88 * level);
    context.fillRect(left, top, right - left - gap, bottom - top - gap);
  }
}

/** The cell under a point given as shares of the width and height. */
export function cellAt({ layers, experts }: ExpertCounts, x: number, y: number) {
  const layer = Math.min(layers - 1, Math.max(0, Math.floor(y * layers)));
  const expert = Math.min(experts - 1, Math.max(0, Math.floor(x * experts)));
  return { layer, expert, index: layer * experts + expert };
}
