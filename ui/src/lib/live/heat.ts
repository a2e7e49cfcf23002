import type { ExpertUse } from '$lib/backend/contract';

/** Seconds of decoding after which what was counted weighs half. */
const halfLife = 10;

/** Adds what was counted in the last `seconds`. Another model begins anew. */
export function heated(heat: ExpertUse | null, use: ExpertUse, seconds: number): ExpertUse {
  if (heat?.experts !== use.experts || heat.big.length !== use.big.length) return use;
  const weight = 0.5 ** (seconds / halfLife);
  const sum = (before: number[], now: number[]) =>
    now.map((count, cell) => count + weight * (before[cell] ?? 0));
  return {
    experts: use.experts,
    little: sum(heat.little, use.little),
    big: sum(heat.big, use.big),
  };
}

/** Of each layer's choices, the share that fell on each expert; `null` where nothing was chosen. */
export function sharesOf(table: number[], experts: number): number[][] | null {
  const layers = Array.from({ length: table.length / experts }, (_, layer) =>
    table.slice(layer * experts, (layer + 1) * experts),
  );
  const shares = layers.map((counts) => {
    const all = counts.reduce((sum, count) => sum + count, 0);
    return counts.map((count) => (all === 0 ? 0 : count / all));
  });
  return shares.some((layer) => layer.some((share) => share > 0)) ? shares : null;
}

export interface Busiest {
  expert: number;
  share: number;
}

/** The experts of a layer that were chosen most, the first of them first. */
export function busiestOf(layer: number[], most: number): Busiest[] {
  return layer
    .map((share, expert) => ({ expert, share }))
    .filter(({ share }) => share > 0)
    .sort((a, b) => b.share - a.share)
    .slice(0, most);
}
