import { expect, it } from 'vitest';
import { cellAt, strengthOf } from './cells';

it('finds the cell under the pointer, at the edges too', () => {
  expect(cellAt(0, 0, 16, 64)).toEqual({ row: 0, column: 0 });
  expect(cellAt(0.5, 0.999, 16, 64)).toEqual({ row: 15, column: 32 });
  expect(cellAt(1, 1, 16, 64)).toEqual({ row: 15, column: 63 });
  expect(cellAt(-0.01, 1.2, 16, 64)).toEqual({ row: 15, column: 0 });
});

it('shows more of a colour for a greater value, and a little for none', () => {
  const strengths = [0, 0.1, 0.5, 1, 2].map((value) => strengthOf(value, 1));
  expect(strengths[0]).toBeGreaterThan(0);
  expect(strengths.slice(0, 4)).toEqual([...strengths.slice(0, 4)].sort((a, b) => a - b));
  expect(strengths.slice(3)).toEqual([1, 1]);
  expect(strengthOf(0, 0)).toBe(strengths[0]);
});
