import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { breakable, mockShell } from '$lib/backend/mock/testing';
import { Preferences } from './preferences.svelte';

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

async function preferencesOn(shell = mockShell()) {
  const preferences = new Preferences(shell);
  void preferences.start();
  await vi.advanceTimersByTimeAsync(100);
  return preferences;
}

describe('settings', () => {
  it('show a change at once and keep it', async () => {
    const shell = mockShell();
    const preferences = await preferencesOn(shell);
    void preferences.changePolicy({ gamma: 0.4 });
    expect(preferences.settings.value?.policy.gamma).toBe(0.4);
    await vi.advanceTimersByTimeAsync(100);
    expect(shell.state.settings.policy.gamma).toBe(0.4);
  });

  it('take a refused change back', async () => {
    const { shell, broken } = breakable('settings_set');
    const preferences = await preferencesOn(shell);
    broken.error = { code: 'read_only', message: 'The settings cannot be written.' };
    void preferences.change({ appearance: 'dark' });
    await vi.advanceTimersByTimeAsync(100);
    expect(preferences.settings.value?.appearance).toBe('system');
    expect(preferences.save.error?.code).toBe('read_only');
  });

  it('keep the last of many quick changes', async () => {
    const shell = mockShell();
    const preferences = await preferencesOn(shell);
    for (let step = 0; step <= 10; step += 1) void preferences.changePolicy({ gamma: step / 10 });
    await vi.advanceTimersByTimeAsync(1000);
    expect(shell.state.settings.policy.gamma).toBe(1);
    expect(preferences.settings.value?.policy.gamma).toBe(1);
  });

  it('hear what another window changed', async () => {
    const shell = mockShell();
    const preferences = await preferencesOn(shell);
    shell.state.emit('settings', { ...shell.state.settings, appearance: 'light' });
    expect(preferences.settings.value?.appearance).toBe('light');
  });
});
