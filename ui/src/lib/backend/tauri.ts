import { Channel, invoke } from '@tauri-apps/api/core';
import { listen } from '@tauri-apps/api/event';
import type { Backend } from './backend';
import { asCommandError } from './backend';

async function send<T>(command: string, args: Record<string, unknown>): Promise<T> {
  try {
    return await invoke<T>(command, args);
  } catch (reason) {
    throw asCommandError(reason);
  }
}

export const backend: Backend = {
  call: (command, args) => send(command, { ...args }),
  stream: (command, args, onEvent) =>
    send(command, { ...args, channel: new Channel<Parameters<typeof onEvent>[0]>(onEvent) }),
  listen: (event, handler) =>
    listen<Parameters<typeof handler>[0]>(event, ({ payload }) => handler(payload)),
};
