import { asCommandError, type Backend } from '$lib/backend/backend';
import type { CommandError, ExpertUse, LiveSample } from '$lib/backend/contract';
import { whileVisible } from '$lib/ui/visible';
import { heated } from './heat';

/** One minute of samples is kept. */
export const windowSeconds = 60;

/** The samples of the last minute; asks for none while nobody can see them. */
export class Live {
  samples = $state.raw<LiveSample[]>([]);
  /** How the experts were chosen of late. */
  heat = $state.raw<ExpertUse | null>(null);
  error = $state.raw<CommandError | null>(null);
  subscribed = $state(false);
  readonly latest = $derived.by(() => this.samples.at(-1) ?? null);
  readonly #backend: Backend;
  #incoming: LiveSample[] = [];
  #frame = 0;
  // A channel that was replaced may still deliver what was under way.
  #round = 0;

  constructor(backend: Backend) {
    this.#backend = backend;
  }

  start(): () => void {
    return whileVisible(() => {
      this.#resume();
      return () => this.#pause();
    });
  }

  #resume = (): void => {
    if (this.subscribed) return;
    const round = ++this.#round;
    this.subscribed = true;
    this.error = null;
    this.#backend
      .stream('live_subscribe', {}, (sample) => {
        if (round === this.#round) this.#receive(sample);
      })
      .catch((reason: unknown) => {
        this.error = asCommandError(reason);
        this.subscribed = false;
      });
  };

  retry = (): void => this.#resume();

  #pause(): void {
    this.#round += 1;
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    if (!this.subscribed) return;
    this.subscribed = false;
    this.#backend.call('live_unsubscribe', {}).catch((reason: unknown) => {
      this.error = asCommandError(reason);
    });
  }

  #receive(sample: LiveSample): void {
    this.#incoming.push(sample);
    // However many arrive between two frames, they are drawn once.
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      const incoming = this.#incoming.splice(0);
      this.#warm(incoming);
      // The tables are added up; a minute of them would be large.
      const slim = incoming.map((one) => ({ ...one, experts: null }));
      const oldest = sample.t - windowSeconds;
      this.samples = [...this.samples, ...slim].filter(({ t }) => t >= oldest);
    });
  }

  #warm(incoming: LiveSample[]): void {
    let before = this.latest?.t ?? incoming[0]?.t ?? 0;
    for (const { t, experts } of incoming) {
      if (experts) this.heat = heated(this.heat, experts, t - before);
      before = t;
    }
  }
}
