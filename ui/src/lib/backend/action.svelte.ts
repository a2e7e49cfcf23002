import { asCommandError } from './backend';
import type { CommandError } from './contract';

/** One thing the user may press: whether it runs, and how it last failed. */
export class Action<A extends unknown[] = []> {
  running = $state(false);
  error = $state.raw<CommandError | null>(null);
  readonly #work: (...args: A) => Promise<unknown>;
  #runs = 0;

  constructor(work: (...args: A) => Promise<unknown>) {
    this.#work = work;
  }

  run = async (...args: A): Promise<boolean> => {
    this.#runs += 1;
    this.running = true;
    this.error = null;
    try {
      await this.#work(...args);
      return true;
    } catch (reason) {
      this.error = asCommandError(reason);
      return false;
    } finally {
      this.#runs -= 1;
      this.running = this.#runs > 0;
    }
  };

  dismiss = (): void => {
    this.error = null;
  };
}
