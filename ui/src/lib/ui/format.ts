import { languageOf } from './language';

const KB = 1000;
const units = ['B', 'KB', 'MB', 'GB', 'TB'];

/** Decimal units, as Finder shows them. */
export function bytes(value: number): string {
  let size = value;
  let unit = 0;
  while (size >= KB && unit < units.length - 1) {
    size /= KB;
    unit += 1;
  }
  const digits = unit < 2 || size >= 100 ? 0 : size >= 10 ? 1 : 2;
  return `${size.toFixed(digits)} ${units[unit] ?? ''}`;
}

export function percent(value: number): string {
  const share = value * 100;
  return `${share > 0 && share < 1 ? share.toFixed(1) : Math.round(share)}%`;
}

export function rate(tokensPerSecond: number): string {
  return tokensPerSecond >= 100 ? tokensPerSecond.toFixed(0) : tokensPerSecond.toFixed(1);
}

export function duration(seconds: number): string {
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 90) return `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 90) return `${minutes} min`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

const thousands = new Intl.NumberFormat('en-US');
export const count = (value: number): string => thousands.format(value);

export const gamma = (value: number): string => value.toFixed(2);

/** What the shell or the engine says, as a sentence. A name of a model or a file stays as it is. */
export function sentence(message: string): string {
  const begun = /^\p{Ll}+[\s,]/u.test(message)
    ? message.charAt(0).toUpperCase() + message.slice(1)
    : message;
  return /[\p{L}\p{N})"]$/u.test(begun) ? `${begun}.` : begun;
}

const day = 86_400_000;
const language = languageOf(navigator);
const clock = new Intl.DateTimeFormat(language, { timeStyle: 'short' });
const weekday = new Intl.DateTimeFormat(language, { weekday: 'long' });
const date = new Intl.DateTimeFormat(language, { dateStyle: 'medium' });

/** The shortest form that still says which day it was. */
export function when(time: number, now = Date.now()): string {
  const midnight = new Date(now).setHours(0, 0, 0, 0);
  if (time >= midnight) return clock.format(time);
  if (time >= midnight - 6 * day) return weekday.format(time);
  return date.format(time);
}
