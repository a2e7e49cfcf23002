import { clearMocks, mockIPC } from '@tauri-apps/api/mocks';
import { Channel } from '@tauri-apps/api/core';
import { afterEach, expect, it } from 'vitest';
import { backend } from './tauri';

afterEach(() => clearMocks());

it('passes commands and arguments on as they are', async () => {
  mockIPC((command, args) => ({ command, args }));
  const answer = await backend.call('conversation_get', { id: 'a' });
  expect(answer).toEqual({ command: 'conversation_get', args: { id: 'a' } });
});

it('hands streams a channel next to their arguments', async () => {
  let sent: unknown;
  mockIPC((_, args) => void (sent = args));
  await backend.stream('model_pull', { id: 'owner/model' }, () => undefined);
  expect(sent).toMatchObject({ id: 'owner/model' });
  expect((sent as { channel: unknown }).channel).toBeInstanceOf(Channel);
});

it('rejects with the shape of the contract', async () => {
  mockIPC(() => Promise.reject('Command calibrate_stop not found'));
  const refused = backend.call('calibrate_stop', {});
  await expect(refused).rejects.toMatchObject({ code: 'unavailable' });
});
