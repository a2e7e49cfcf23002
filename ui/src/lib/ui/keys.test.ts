import { expect, it } from 'vitest';
import { isComposing } from './keys';

it('knows the Enter that confirms a composition', () => {
  const enter = (init: KeyboardEventInit) =>
    new KeyboardEvent('keydown', { key: 'Enter', ...init });
  expect(isComposing(enter({ keyCode: 13 }))).toBe(false);
  expect(isComposing(enter({ keyCode: 13, isComposing: true }))).toBe(true);
  expect(isComposing(enter({ keyCode: 229 }))).toBe(true);
});
