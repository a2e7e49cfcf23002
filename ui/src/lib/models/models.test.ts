import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { qwen } from '$lib/backend/mock/models';
import { breakable, mockShell } from '$lib/backend/mock/testing';
import { Models } from './models.svelte';

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

async function modelsOn(shell = mockShell()) {
  const models = new Models(shell);
  void models.start();
  await vi.advanceTimersByTimeAsync(100);
  return models;
}

describe('the library', () => {
  it('pulls, pauses, resumes, and lists the model once it is whole', async () => {
    const models = await modelsOn();
    void models.pull(qwen);
    await vi.advanceTimersByTimeAsync(1000);
    expect(models.pulls.get(qwen)?.bytes).toBeGreaterThan(0);
    void models.pause(qwen);
    await vi.advanceTimersByTimeAsync(50);
    const paused = models.pulls.get(qwen);
    expect(paused?.status).toBe('paused');
    await vi.advanceTimersByTimeAsync(5000);
    expect(models.pulls.get(qwen)).toEqual(paused);
    void models.resume(qwen);
    await vi.advanceTimersByTimeAsync(20_000);
    expect(models.pulls.has(qwen)).toBe(false);
    expect(models.installed.map(({ id }) => id)).toContain(qwen);
  });

  it('keeps what arrived when a download fails', async () => {
    const models = await modelsOn(mockShell('downloadfail'));
    void models.pull(qwen);
    await vi.advanceTimersByTimeAsync(10_000);
    expect(models.pulls.get(qwen)?.status).toBe('failed');
    expect(models.pulls.get(qwen)?.bytes).toBeGreaterThan(0);
    expect(models.installed.map(({ id }) => id)).not.toContain(qwen);
  });

  it('shows a refused download as failed', async () => {
    const { shell, broken } = breakable('model_pull');
    const models = await modelsOn(shell);
    broken.error = { code: 'disk_full', message: 'The disk is full.' };
    void models.pull(qwen);
    await vi.advanceTimersByTimeAsync(100);
    expect(models.pulls.get(qwen)?.error?.code).toBe('disk_full');
  });

  it('follows the engine while a model loads', async () => {
    const models = await modelsOn();
    void models.load.run('mobile/tiny-moe');
    await vi.advanceTimersByTimeAsync(100);
    expect(models.engine.value?.state).toBe('loading');
    await vi.advanceTimersByTimeAsync(1000);
    expect(models.engine.value?.state).toBe('ready');
    expect(models.current?.name).toBe('Tiny MoE');
  });

  it('says that the engine is gone', async () => {
    const models = await modelsOn(mockShell('offline'));
    expect(models.engine.state).toBe('failed');
    expect(models.list.error?.code).toBe('offline');
  });
});
