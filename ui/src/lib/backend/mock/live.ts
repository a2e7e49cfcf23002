import type { Calibration, CalibrationPoint, ExpertUse, LiveSample } from '../contract';
import { olmoe } from './models';
import { randomFrom } from './random';

export const histogram: number[] = Array.from({ length: 20 }, (_, bin) => {
  const x = (bin + 0.5) / 20;
  return Math.round(400 * (0.08 + 0.25 * x + 1.6 * x ** 9));
});

/** Milliseconds between two samples: the shell's while tokens are decoded. */
export const livePeriod = 50;

const layers = 16;
const experts = 64;

/** A table of choices, `k` for each token, that lean to a few experts of each layer and wander with time. */
function choices(tokens: number, k: number, t: number, random: () => number): number[] {
  const table = new Array<number>(layers * experts).fill(0);
  for (let layer = 0; layer < layers; layer += 1) {
    for (let choice = 0; choice < tokens * k; choice += 1) {
      const favourite = (layer * 23 + Math.floor(t / 4) * 7) % experts;
      const expert = (favourite + Math.floor(experts * random() ** 2.5) * 11) % experts;
      const cell = layer * experts + expert;
      table[cell] = (table[cell] ?? 0) + 1;
    }
  }
  return table;
}

export class MockLive {
  readonly #random = randomFrom(11);
  #t = 0;

  next(gamma: number, generating: boolean): LiveSample {
    this.#t += livePeriod / 1000;
    const wave = Math.sin(this.#t / 3) * 0.05;
    const importance = Math.max(0, Math.min(1, gamma * 0.36 + wave + this.#random() * 0.03));
    const speed = (98 - 70 * importance) * (0.97 + 0.06 * this.#random());
    return {
      t: this.#t,
      generating,
      tokensPerSecond: generating ? speed : null,
      importanceRate: generating ? importance : null,
      fallbackRate: generating ? importance : null,
      confidenceHistogram: generating ? histogram : new Array<number>(20).fill(0),
      gamma,
      cacheHitRate: generating ? 0.86 + 0.1 * this.#random() : null,
      bytesReadPerSecond: generating ? 4.1e8 * (0.9 + 0.2 * this.#random()) : null,
      memoryBytes: 4.6e9,
      queue: 0,
      experts: generating ? this.#experts(importance) : null,
    };
  }

  #experts(importance: number): ExpertUse {
    const little = choices(4, 4, this.#t, this.#random);
    const big = choices(Math.round(4 * importance), 8, this.#t, this.#random);
    return { experts, little, big };
  }
}

const steps = [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1];

export const points: CalibrationPoint[] = steps.map((gamma) => ({
  gamma,
  tokensPerSecond: 99 - 46 * gamma ** 2.2,
  perplexityRatio: 1 + 0.14 * (1 - gamma) ** 2.4,
  fallbackRate: 0.72 * gamma ** 2.6,
}));

export const calibration: Calibration = {
  model: olmoe,
  device: 'Apple M4 Pro',
  measuredAt: Date.UTC(2026, 2, 3, 9, 41),
  tokens: 4096,
  points,
  confidenceHistogram: histogram,
  recommended: 0.6,
  bound: 0.02,
  complete: true,
};
