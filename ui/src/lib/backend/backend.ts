import type { CommandError, Commands, Events, Streams } from './contract';

export type CommandName = keyof Commands;
export type StreamName = keyof Streams;
export type EventName = keyof Events;

export interface Backend {
  call<C extends CommandName>(
    command: C,
    args: Commands[C]['args'],
  ): Promise<Commands[C]['result']>;
  stream<C extends StreamName>(
    command: C,
    args: Streams[C]['args'],
    onEvent: (event: Streams[C]['event']) => void,
  ): Promise<void>;
  /** Resolves to the function that stops listening. */
  listen<E extends EventName>(event: E, handler: (payload: Events[E]) => void): Promise<() => void>;
}

/** A rejection of any kind as the contract's shape. */
export function asCommandError(reason: unknown): CommandError {
  if (typeof reason === 'object' && reason !== null) {
    const { code, message } = reason as { code?: unknown; message?: unknown };
    if (typeof message === 'string') {
      return { code: typeof code === 'string' ? code : 'failed', message };
    }
  }
  const message = String(reason);
  // Tauri itself rejects with a bare string when a command is not registered.
  const missing = /command \S+ not found|not allowed/i.test(message);
  return { code: missing ? 'unavailable' : 'failed', message };
}
