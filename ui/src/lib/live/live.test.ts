import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { mockShell } from '$lib/backend/mock/testing';
import { Live, windowSeconds } from './live.svelte';
import { confidenceSpec, shareBelow } from './specs';

beforeEach(() => void vi.useFakeTimers());
afterEach(() => {
  vi.useRealTimers();
  vi.restoreAllMocks();
});

function hide(hidden: boolean) {
  vi.spyOn(document, 'hidden', 'get').mockReturnValue(hidden);
  document.dispatchEvent(new Event('visibilitychange'));
}

describe('the live view', () => {
  it('keeps one minute', async () => {
    const live = new Live(mockShell('streaming'));
    const stop = live.start();
    await vi.advanceTimersByTimeAsync(90_000);
    const [first] = live.samples;
    expect((live.latest?.t ?? 0) - (first?.t ?? 0)).toBeLessThanOrEqual(windowSeconds);
    expect(live.samples.length).toBeGreaterThan(500);
    stop();
  });

  it('adds up what the experts did and keeps no table with a sample', async () => {
    const live = new Live(mockShell('streaming'));
    const stop = live.start();
    await vi.advanceTimersByTimeAsync(3000);
    expect(live.heat?.experts).toBe(64);
    const sum = (table: number[] = []) => table.reduce((all, count) => all + count, 0);
    expect(sum(live.heat?.little)).toBeGreaterThan(sum(live.heat?.big));
    expect(live.samples.every(({ experts }) => experts === null)).toBe(true);
    stop();
  });

  it('asks for nothing while hidden', async () => {
    const shell = mockShell('streaming');
    const next = vi.spyOn(shell.state.live, 'next');
    const live = new Live(shell);
    const stop = live.start();
    await vi.advanceTimersByTimeAsync(1000);
    hide(true);
    await vi.advanceTimersByTimeAsync(200);
    const calls = next.mock.calls.length;
    await vi.advanceTimersByTimeAsync(5000);
    expect(next.mock.calls.length).toBe(calls);
    hide(false);
    await vi.advanceTimersByTimeAsync(1000);
    expect(next.mock.calls.length).toBeGreaterThan(calls);
    stop();
  });

  it('says when this build cannot', async () => {
    const live = new Live(mockShell('unavailable'));
    live.start();
    await vi.advanceTimersByTimeAsync(100);
    expect(live.error?.code).toBe('unavailable');
    expect(live.subscribed).toBe(false);
  });
});

describe('the confidence histogram', () => {
  it('is parted at the threshold', () => {
    const histogram = [1, 1, 1, 1];
    expect(shareBelow(histogram, 0.5)).toBe(0.5);
    expect(shareBelow([0, 0], 0.5)).toBe(0);
    const sample = mockShell('streaming').state.live.next(0.7, true);
    const [below, above] = confidenceSpec(sample).series;
    expect(below?.values.slice(14).every((value) => value === null)).toBe(true);
    expect(above?.values.slice(0, 14).every((value) => value === null)).toBe(true);
  });
});
