import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { calibration as measured, points } from '$lib/backend/mock/live';
import { mockShell } from '$lib/backend/mock/testing';
import { Calibration, pointAt } from './calibration.svelte';
import { curveSpec } from './curve';

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

describe('pointAt', () => {
  it('goes straight between two measured points', () => {
    const [a, b] = points;
    const middle = pointAt(points, 0.05)?.tokensPerSecond ?? 0;
    expect(middle).toBeCloseTo(((a?.tokensPerSecond ?? 0) + (b?.tokensPerSecond ?? 0)) / 2);
  });

  it('stays at the ends, and knows nothing without points', () => {
    expect(pointAt(points, 2)?.tokensPerSecond).toBe(points.at(-1)?.tokensPerSecond);
    expect(pointAt([], 0.5)).toBeNull();
  });
});

describe('curveSpec', () => {
  it('puts shares that sum to one behind the curve', () => {
    const bars = curveSpec(measured).series.find(({ kind }) => kind === 'bars');
    const sum = bars?.values.reduce<number>((total, value) => total + (value ?? 0), 0);
    expect(sum).toBeCloseTo(1);
  });
});

describe('measuring', () => {
  it('reports progress and then the curve of the model that is loaded now', async () => {
    const shell = mockShell('empty');
    const call = vi.spyOn(shell, 'call');
    const calibration = new Calibration(shell);
    void calibration.run();
    await vi.advanceTimersByTimeAsync(400);
    expect(calibration.progress?.done).toBeGreaterThan(0);
    await vi.advanceTimersByTimeAsync(5000);
    expect(calibration.progress).toBeNull();
    expect(call.mock.lastCall?.[0]).toBe('calibration_get');
    expect(calibration.measured.value?.points).toHaveLength(points.length);
  });

  it('ends early with what was there before', async () => {
    const calibration = new Calibration(mockShell());
    void calibration.measured.refresh();
    void calibration.run();
    await vi.advanceTimersByTimeAsync(400);
    expect(calibration.progress?.share).toBeGreaterThan(0);
    void calibration.stop.run();
    await vi.advanceTimersByTimeAsync(400);
    expect(calibration.progress).toBeNull();
    expect(calibration.error).toBeNull();
    expect(calibration.measured.value).toEqual(measured);
  });

  it('says when this build cannot', async () => {
    const calibration = new Calibration(mockShell('unavailable'));
    void calibration.measured.refresh();
    void calibration.run();
    await vi.advanceTimersByTimeAsync(100);
    expect(calibration.measured.state).toBe('unavailable');
    expect(calibration.error?.code).toBe('unavailable');
    expect(calibration.progress).toBeNull();
  });
});
