import { untrack } from 'svelte';
import { asCommandError } from './backend';
import type { CommandError } from './contract';

export type ResourceState = 'idle' | 'loading' | 'ready' | 'unavailable' | 'failed';

/** A value the backend has to be asked for, and what became of asking. */
export class Resource<T> {
  state = $state<ResourceState>('idle');
  value = $state.raw<T | null>(null);
  error = $state.raw<CommandError | null>(null);
  readonly #ask: () => Promise<T>;
  #round = 0;

  constructor(ask: () => Promise<T>) {
    this.#ask = ask;
  }

  set(value: T): void {
    this.#round += 1;
    this.value = value;
    this.error = null;
    this.state = 'ready';
  }

  async refresh(): Promise<void> {
    const round = ++this.#round;
    // An effect that asks must not run again for the answer, and so for ever.
    if (untrack(() => this.value) === null) this.state = 'loading';
    try {
      const value = await this.#ask();
      if (round === this.#round) this.set(value);
    } catch (reason) {
      if (round !== this.#round) return;
      this.error = asCommandError(reason);
      this.state = this.error.code === 'unavailable' ? 'unavailable' : 'failed';
    }
  }
}
