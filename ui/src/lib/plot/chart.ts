import uPlot from 'uplot';
import { faded, type ColorName, type Palette } from './palette';

export interface ChartSeries {
  label: string;
  color: ColorName;
  scale: string;
  kind: 'line' | 'bars';
  dash?: number[];
  values: (number | null)[];
  format: (value: number) => string;
  /** What the legend shows while nothing is pointed at; otherwise the value at `at`. */
  resting?: number;
}

export interface ChartScale {
  side: 'left' | 'right' | 'none';
  unit: string;
  /** `null` follows the data from zero. */
  range: [number, number] | null;
  format: (value: number) => string;
}

export interface ChartX {
  values: number[];
  range: [number, number];
  label: string;
  format: (value: number) => string;
  /** Bars are drawn this wide, in units of x. */
  step?: number;
}

export interface ChartMark {
  x: number;
  label: string;
}

export interface ChartSpec {
  x: ChartX;
  series: ChartSeries[];
  scales: Record<string, ChartScale>;
}

const axisFont = '11px system-ui, sans-serif';
const lineWidth = 1.75;
const barFill = 0.9;

function rangeOf(range: [number, number] | null): uPlot.Scale.Range {
  if (range) return range;
  return (_, __, max) => [0, Math.max(max * 1.15, Number.EPSILON)];
}

function seriesOf(series: ChartSeries, palette: Palette, shown: boolean): uPlot.Series {
  const color = palette[series.color];
  const common = { label: series.label, scale: series.scale, show: shown, points: { show: false } };
  if (series.kind === 'bars') {
    const paths = uPlot.paths.bars?.({ size: [barFill, Infinity, 1], align: 1 });
    return { ...common, ...(paths && { paths }), fill: faded(color, 0.55), width: 0 };
  }
  return {
    ...common,
    stroke: color,
    width: lineWidth,
    ...(series.dash && { dash: series.dash }),
  };
}

function axisOf(name: string, scale: ChartScale, palette: Palette): uPlot.Axis {
  return {
    scale: name,
    side: scale.side === 'right' ? 1 : 3,
    stroke: palette['text-2'],
    font: axisFont,
    size: 46,
    gap: 6,
    space: 26,
    label: scale.unit,
    labelFont: axisFont,
    labelSize: 16,
    labelGap: 0,
    grid: { show: scale.side === 'left', stroke: palette.line, width: 1 },
    ticks: { show: false },
    values: (_, values) => values.map(scale.format),
  };
}

export function optionsOf(
  { x, series, scales }: ChartSpec,
  palette: Palette,
  hidden: ReadonlySet<string>,
  size: { width: number; height: number },
  hooks: uPlot.Hooks.Arrays,
): uPlot.Options {
  const shownScales = Object.entries(scales).filter(([, { side }]) => side !== 'none');
  return {
    ...size,
    legend: { show: false },
    cursor: { y: false, drag: { x: false, y: false }, points: { size: 7 } },
    scales: {
      x: { time: false, range: x.range },
      ...Object.fromEntries(
        Object.entries(scales).map(([name, { range }]) => [name, { range: rangeOf(range) }]),
      ),
    },
    series: [{}, ...series.map((one) => seriesOf(one, palette, !hidden.has(one.label)))],
    axes: [
      {
        stroke: palette['text-2'],
        font: axisFont,
        size: 30,
        gap: 10,
        grid: { show: false },
        ticks: { show: false },
        values: (_, values) => values.map(x.format),
        ...(x.label && { label: x.label, labelFont: axisFont, labelSize: 18, labelGap: 0 }),
      },
      ...shownScales.map(([name, scale]) => axisOf(name, scale, palette)),
    ],
    hooks,
  };
}

/** Vertical lines with a word at their head. */
export function drawMarks(plot: uPlot, marks: ChartMark[], palette: Palette): void {
  const { ctx, bbox } = plot;
  const ratio = devicePixelRatio;
  ctx.save();
  ctx.strokeStyle = palette.accent;
  ctx.fillStyle = palette.text;
  ctx.lineWidth = 1.5 * ratio;
  ctx.textAlign = 'left';
  ctx.textBaseline = 'alphabetic';
  ctx.font = `${11 * ratio}px system-ui, sans-serif`;
  for (const { x, label } of marks) {
    const left = plot.valToPos(x, 'x', true);
    ctx.beginPath();
    ctx.moveTo(left, bbox.top);
    ctx.lineTo(left, bbox.top + bbox.height);
    ctx.stroke();
    const width = ctx.measureText(label).width;
    const gap = 5 * ratio;
    const fits = left + gap + width < bbox.left + bbox.width;
    ctx.fillText(label, fits ? left + gap : left - gap - width, bbox.top + 10 * ratio);
  }
  ctx.restore();
}

export function dataOf({ x, series }: ChartSpec): uPlot.AlignedData {
  return [x.values, ...series.map(({ values }) => values)] as uPlot.AlignedData;
}
