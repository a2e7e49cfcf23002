import type { LiveSample } from '$lib/backend/contract';
import type { ChartSeries, ChartSpec, ChartX } from '$lib/plot/chart';
import { strings } from '$lib/strings';
import { gamma, percent, rate } from '$lib/ui/format';
import { windowSeconds } from './live.svelte';

const words = strings.live;

function timeOf(samples: LiveSample[]): ChartX {
  const now = samples.at(-1)?.t ?? 0;
  return {
    values: samples.map(({ t }) => t - now),
    range: [-windowSeconds, 0],
    label: '',
    format: (value) => (value > -0.5 ? words.now : `${Math.round(-value)} s`),
  };
}

export function speedSpec(samples: LiveSample[]): ChartSpec {
  const values = samples.map((sample) => sample.tokensPerSecond);
  return {
    x: timeOf(samples),
    scales: {
      speed: { side: 'left', unit: words.speedUnit, range: null, format: (v) => v.toFixed(0) },
    },
    series: [
      { label: words.speed, color: 'text', scale: 'speed', kind: 'line', values, format: rate },
    ],
  };
}

export function ratesSpec(samples: LiveSample[]): ChartSpec {
  const line = { scale: 'share', kind: 'line', format: percent } as const;
  return {
    x: timeOf(samples),
    scales: {
      share: { side: 'left', unit: '', range: [0, 1], format: percent },
    },
    series: [
      {
        ...line,
        label: words.fallback,
        color: 'fallback',
        values: samples.map((sample) => sample.fallbackRate),
      },
      {
        ...line,
        label: words.importance,
        color: 'text-2',
        dash: [6, 4],
        values: samples.map((sample) => sample.importanceRate),
      },
    ],
  };
}

/** The share of tokens in the bins left of γ. */
export function shareBelow(histogram: number[], threshold: number): number {
  const all = histogram.reduce((sum, bin) => sum + bin, 0);
  const below = histogram
    .filter((_, bin) => (bin + 0.5) / histogram.length < threshold)
    .reduce((sum, bin) => sum + bin, 0);
  return all === 0 ? 0 : below / all;
}

export function confidenceSpec(sample: LiveSample): ChartSpec {
  const bins = sample.confidenceHistogram;
  const all = Math.max(
    1,
    bins.reduce((sum, bin) => sum + bin, 0),
  );
  const edge = (bin: number) => bin / bins.length;
  const isBelow = (bin: number) => (bin + 0.5) / bins.length < sample.gamma;
  const below = shareBelow(bins, sample.gamma);
  const part = (unsure: boolean): ChartSeries => ({
    label: unsure ? words.unsure : words.sure,
    color: unsure ? 'fallback' : 'little',
    scale: 'share',
    kind: 'bars',
    values: bins.map((value, bin) => (isBelow(bin) === unsure ? value / all : null)),
    resting: unsure ? below : 1 - below,
    format: percent,
  });
  return {
    x: {
      values: bins.map((_, bin) => edge(bin)),
      range: [0, 1],
      label: words.confidence,
      format: gamma,
    },
    scales: { share: { side: 'left', unit: '', range: null, format: percent } },
    series: [part(true), part(false)],
  };
}
