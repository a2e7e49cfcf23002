import { describe, expect, it } from 'vitest';
import { busiestOf, heated, sharesOf } from './heat';

const use = (little: number[], big: number[]) => ({ experts: 2, little, big });

describe('the heat of experts', () => {
  it('adds up, and halves in ten seconds', () => {
    const first = heated(null, use([4, 0, 0, 4], [0, 0, 0, 0]), 0.1);
    const second = heated(first, use([0, 1, 1, 0], [8, 0, 0, 8]), 10);
    expect(second).toEqual(use([2, 1, 1, 2], [8, 0, 0, 8]));
  });

  it('begins anew with a model of another shape', () => {
    const small = use([1, 1], [1, 1]);
    expect(heated(use([4, 0, 0, 4], [0, 0, 0, 0]), small, 1)).toBe(small);
    const other = { experts: 4, little: [0, 1, 0, 0], big: [0, 0, 0, 0] };
    expect(heated(use([4, 0, 0, 4], [0, 0, 0, 0]), other, 1)).toBe(other);
  });

  it('is shown as shares of each layer', () => {
    expect(sharesOf([3, 1, 0, 0], 2)).toEqual([
      [0.75, 0.25],
      [0, 0],
    ]);
    expect(sharesOf([0, 0, 0, 0], 2)).toBeNull();
  });

  it('names the busiest experts, and none that was not chosen', () => {
    expect(busiestOf([0.1, 0, 0.6, 0.3], 2)).toEqual([
      { expert: 2, share: 0.6 },
      { expert: 3, share: 0.3 },
    ]);
    expect(busiestOf([0, 1], 3)).toEqual([{ expert: 1, share: 1 }]);
  });
});
