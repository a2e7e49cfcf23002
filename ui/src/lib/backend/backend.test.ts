import { describe, expect, it } from 'vitest';
import { asCommandError } from './backend';
import { Resource } from './resource.svelte';

describe('asCommandError', () => {
  it('keeps the shape of the contract', () => {
    const error = { code: 'offline', message: 'Gone.' };
    expect(asCommandError(error)).toEqual(error);
  });

  it('knows a command the shell does not have', () => {
    expect(asCommandError('Command calibrate not found').code).toBe('unavailable');
    expect(asCommandError('something else').code).toBe('failed');
    expect(asCommandError(new Error('broken'))).toEqual({ code: 'failed', message: 'broken' });
  });
});

describe('Resource', () => {
  it('keeps the newest answer, whichever came last', async () => {
    const answers: ((value: string) => void)[] = [];
    const resource = new Resource(() => new Promise<string>((resolve) => answers.push(resolve)));
    const first = resource.refresh();
    const second = resource.refresh();
    answers[1]?.('new');
    answers[0]?.('old');
    await Promise.all([first, second]);
    expect(resource.value).toBe('new');
  });
});
