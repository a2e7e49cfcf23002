import type { Calibration, CalibrationPoint, LiveSample } from '../contract';
import { olmoe } from './models';
import { randomFrom } from './random';

export const histogram: number[] = Array.from({ length: 20 }, (_, bin) => {
  const x = (bin + 0.5) / 20;
  return Math.round(400 * (0.08 + 0.25 * x + 1.6 * x ** 9));
});

export class MockLive {
  readonly #random = randomFrom(11);
  #t = 0;

  next(gamma: number, generating: boolean): LiveSample {
    this.#t += 0.1;
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
    };
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
