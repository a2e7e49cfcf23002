import { describe, expect, it } from 'vitest';
import { bytes, duration, percent, rate, sentence, when } from './format';

describe('numbers', () => {
  it.each([
    [999, '999 B'],
    [68e6, '68.0 MB'],
    [3.9e9, '3.90 GB'],
    [93.4e9, '93.4 GB'],
    [212e9, '212 GB'],
  ])('%d bytes', (value, shown) => expect(bytes(value)).toBe(shown));

  it('keeps small shares apart from none', () => {
    expect([0, 0.004, 0.256, 1].map(percent)).toEqual(['0%', '0.4%', '26%', '100%']);
  });

  it('rates and durations', () => {
    expect([9.25, 118.4].map(rate)).toEqual(['9.3', '118']);
    expect([2.71, 42, 600, 7500].map(duration)).toEqual(['2.7 s', '42 s', '10 min', '2 h 5 min']);
  });

  it('messages become sentences, and names stay as they are', () => {
    expect(sentence('no model is loaded; choose one')).toBe('No model is loaded; choose one.');
    expect(sentence('olmoe-tiny is not here')).toBe('olmoe-tiny is not here.');
    expect(sentence('The connection was lost.')).toBe('The connection was lost.');
    expect(sentence('')).toBe('');
  });

  it('times of today are clock times', () => {
    const noon = new Date(2026, 5, 10, 12).getTime();
    const day = 86_400_000;
    expect(when(noon - 3_600_000, noon)).toMatch(/11.00/);
    expect(when(noon - 2 * day, noon)).not.toMatch(/\d/);
    expect(when(noon - 30 * day, noon)).toMatch(/2026/);
  });
});
