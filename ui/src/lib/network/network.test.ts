import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { mockShell } from '$lib/backend/mock/testing';
import { Network } from './network.svelte';
import { qrOf } from './qr';

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

async function networkOn(shell = mockShell()) {
  const network = new Network(shell);
  void network.start();
  await vi.advanceTimersByTimeAsync(100);
  return network;
}

describe('the network', () => {
  it('is shared and closed again', async () => {
    const network = await networkOn();
    expect(network.status.value?.urls).toHaveLength(1);
    void network.setLan.run(true);
    await vi.advanceTimersByTimeAsync(100);
    expect(network.status.value?.lan).toBe(true);
    expect(network.status.value?.urls.length).toBeGreaterThan(1);
    void network.setLan.run(false);
    await vi.advanceTimersByTimeAsync(100);
    expect(network.status.value?.lan).toBe(false);
  });

  it('looks again while it is shared, and not while nobody can see it', async () => {
    const shell = mockShell('lan');
    const asked = vi.spyOn(shell, 'call');
    await networkOn(shell);
    const before = asked.mock.calls.length;
    await vi.advanceTimersByTimeAsync(4100);
    expect(asked.mock.calls.length).toBe(before + 2);
    vi.spyOn(document, 'hidden', 'get').mockReturnValue(true);
    document.dispatchEvent(new Event('visibilitychange'));
    await vi.advanceTimersByTimeAsync(4100);
    expect(asked.mock.calls.length).toBe(before + 2);
    vi.restoreAllMocks();
  });

  it('forgets the secret of a revoked key', async () => {
    const network = await networkOn();
    void network.createKey.run('Phone');
    await vi.advanceTimersByTimeAsync(100);
    expect(network.fresh?.secret).toMatch(/^mob_/);
    void network.revokeKey.run(network.fresh?.key.id ?? '');
    await vi.advanceTimersByTimeAsync(100);
    expect(network.fresh).toBeNull();
    expect(network.keys.value).toHaveLength(1);
  });
});

describe('qrOf', () => {
  it('has the finder pattern in its corner', () => {
    const { size, path } = qrOf('http://192.168.1.24:8090');
    expect((size - 17) % 4).toBe(0);
    expect(path.startsWith('M0 0h1v1h-1zM1 0')).toBe(true);
    expect(path).not.toContain('M7 0h');
  });
});
