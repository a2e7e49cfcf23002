import type { Backend, CommandName, EventName, StreamName } from '../backend';
import type { Commands, Events, Streams } from '../contract';
import { type CallHandlers, callHandlers } from './calls';
import { MockState } from './state';
import { type StreamHandlers, streamHandlers } from './streams';
import type { MockOptions } from './scenario';

const latency = 8;

/** A deterministic stand-in for the shell, in the page itself. */
export class MockShell implements Backend {
  readonly state: MockState;
  readonly #calls: CallHandlers;
  readonly #streams: StreamHandlers;

  constructor(options: MockOptions) {
    this.state = new MockState(options);
    this.#calls = callHandlers(this.state);
    this.#streams = streamHandlers(this.state);
  }

  async call<C extends CommandName>(
    command: C,
    args: Commands[C]['args'],
  ): Promise<Commands[C]['result']> {
    await this.#arrive(command);
    return structuredClone(await this.#calls[command](structuredClone(args)));
  }

  async stream<C extends StreamName>(
    command: C,
    args: Streams[C]['args'],
    onEvent: (event: Streams[C]['event']) => void,
  ): Promise<void> {
    await this.#arrive(command);
    this.#streams[command](structuredClone(args), onEvent);
  }

  listen<E extends EventName>(
    event: E,
    handler: (payload: Events[E]) => void,
  ): Promise<() => void> {
    return Promise.resolve(this.state.listen(event, handler));
  }

  async #arrive(command: CommandName | StreamName): Promise<void> {
    await new Promise((resolve) => setTimeout(resolve, latency));
    this.state.refuse(command);
  }
}
