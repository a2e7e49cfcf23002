import { Action } from '$lib/backend/action.svelte';
import { asCommandError, type Backend } from '$lib/backend/backend';
import type { Calibration as Measured, CalibrationPoint } from '$lib/backend/contract';
import type { CalibrationProgress, CommandError } from '$lib/backend/contract';
import { Resource } from '$lib/backend/resource.svelte';

/** The measured curve of the loaded model, and the measuring. */
export class Calibration {
  readonly measured: Resource<Measured | null>;
  readonly stop: Action;
  progress = $state.raw<CalibrationProgress | null>(null);
  stopping = $state(false);
  error = $state.raw<CommandError | null>(null);
  readonly #backend: Backend;

  constructor(backend: Backend) {
    this.#backend = backend;
    this.measured = new Resource(() => backend.call('calibration_get', {}));
    this.stop = new Action(async () => {
      this.stopping = true;
      await backend.call('calibrate_stop', {});
    });
  }

  run = async (): Promise<void> => {
    this.error = null;
    this.stopping = false;
    this.progress = { done: 0, total: 0, share: 0, point: null };
    try {
      await this.#backend.stream('calibrate', {}, (event) => {
        if (event.type === 'progress') {
          this.progress = event;
          return;
        }
        this.progress = null;
        // What was measured may be a model that is not loaded any more.
        if (event.type === 'finished') void this.measured.refresh();
        else if (event.type === 'failed') {
          this.error = { code: event.code, message: event.message };
        }
      });
    } catch (reason) {
      this.progress = null;
      this.error = asCommandError(reason);
    }
  };
}

/** What the curve says for a threshold between two measured ones. */
export function pointAt(points: CalibrationPoint[], gamma: number): CalibrationPoint | null {
  const after = points.find((point) => point.gamma >= gamma) ?? points.at(-1);
  const before = points.findLast((point) => point.gamma <= gamma) ?? points[0];
  if (!after || !before) return null;
  const span = after.gamma - before.gamma;
  const share = span === 0 ? 0 : (gamma - before.gamma) / span;
  const between = (a: number, b: number) => a + (b - a) * share;
  return {
    gamma,
    tokensPerSecond: between(before.tokensPerSecond, after.tokensPerSecond),
    perplexityRatio: between(before.perplexityRatio, after.perplexityRatio),
    fallbackRate: between(before.fallbackRate, after.fallbackRate),
  };
}
