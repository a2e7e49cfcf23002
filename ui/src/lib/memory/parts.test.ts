import { expect, it } from 'vitest';
import { memoryPlan } from '$lib/backend/mock/settings';
import { partsOf } from './parts';

it('shares out the whole memory', () => {
  const plan = memoryPlan(null);
  const sum = partsOf(plan).reduce((total, { bytes }) => total + bytes, 0);
  expect(sum).toBeCloseTo(plan.totalBytes);
});

it('never shows less than nothing', () => {
  const parts = partsOf({ ...memoryPlan(null), availableBytes: 1e9 });
  expect(Math.min(...parts.map(({ bytes }) => bytes))).toBe(0);
});
