import type { Calibration } from '$lib/backend/contract';
import type { ChartSpec } from '$lib/plot/chart';
import { strings } from '$lib/strings';
import { gamma, percent, rate } from '$lib/ui/format';
import { pointAt } from './calibration.svelte';

export const curveSteps = 20;

/** The curve on the histogram's grid, so that both can stand in one plot. */
export function curveSpec({ points, confidenceHistogram }: Calibration): ChartSpec {
  const words = strings.policy;
  const grid = Array.from({ length: curveSteps + 1 }, (_, step) => step / curveSteps);
  const along = grid.map((x) => pointAt(points, x));
  const all = confidenceHistogram.reduce((sum, bin) => sum + bin, 0);
  const shares = grid.map((_, bin) => {
    const here = confidenceHistogram[bin];
    return all > 0 && here !== undefined ? here / all : null;
  });
  const perplexities = points.map((point) => point.perplexityRatio);
  return {
    x: { values: grid, range: [0, 1], label: words.curveAxis, format: gamma },
    scales: {
      speed: { side: 'left', unit: words.curveSpeedUnit, range: null, format: (v) => v.toFixed(0) },
      quality: {
        side: 'right',
        unit: words.curveQualityUnit,
        range: [Math.min(1, ...perplexities), Math.max(1.01, ...perplexities) + 0.01],
        format: (v) => v.toFixed(2),
      },
      share: { side: 'none', unit: '', range: [0, 1], format: percent },
    },
    series: [
      {
        label: words.curveConfidence,
        color: 'text-2',
        scale: 'share',
        kind: 'bars',
        values: shares,
        format: percent,
      },
      {
        label: words.curveSpeed,
        color: 'text',
        scale: 'speed',
        kind: 'line',
        values: along.map((point) => point?.tokensPerSecond ?? null),
        format: rate,
      },
      {
        label: words.curveQuality,
        color: 'text-2',
        scale: 'quality',
        kind: 'line',
        dash: [6, 4],
        values: along.map((point) => point?.perplexityRatio ?? null),
        format: (v) => `${v.toFixed(3)}×`,
      },
      {
        label: words.curveFallback,
        color: 'fallback',
        scale: 'share',
        kind: 'line',
        values: along.map((point) => point?.fallbackRate ?? null),
        format: percent,
      },
    ],
  };
}
