import { Action } from '$lib/backend/action.svelte';
import type { Backend } from '$lib/backend/backend';
import type { Look, Policy, Settings } from '$lib/backend/contract';
import { Resource } from '$lib/backend/resource.svelte';

/** The settings both windows share; a change shows at once and is taken back if it is refused. */
export class Preferences {
  readonly settings: Resource<Settings>;
  readonly look: Resource<Look>;
  readonly save: Action<[Settings]>;
  readonly reset: Action;
  readonly autostart: Action<[boolean]>;
  readonly #backend: Backend;
  #writes = Promise.resolve();

  constructor(backend: Backend) {
    this.#backend = backend;
    this.settings = new Resource(() => backend.call('settings_get', {}));
    this.look = new Resource(() => backend.call('look_get', {}));
    this.save = new Action((settings: Settings) => this.#write(settings));
    this.reset = new Action(async () => {
      this.settings.set(await backend.call('settings_reset', {}));
    });
    this.autostart = new Action(async (enabled: boolean) => {
      await backend.call('autostart_set', { enabled });
      await this.settings.refresh();
    });
  }

  async start(): Promise<() => void> {
    const [stopSettings, stopLook] = await Promise.all([
      this.#backend.listen('settings', (settings) => this.settings.set(settings)),
      this.#backend.listen('look', (look) => this.look.set(look)),
    ]);
    await Promise.all([this.settings.refresh(), this.look.refresh()]);
    return () => {
      stopSettings();
      stopLook();
    };
  }

  change(part: Partial<Settings>): Promise<boolean> {
    const current = this.settings.value;
    if (!current) return Promise.resolve(false);
    return this.save.run({ ...current, ...part });
  }

  changePolicy(part: Partial<Policy>): Promise<boolean> {
    const current = this.settings.value;
    if (!current) return Promise.resolve(false);
    return this.change({ policy: { ...current.policy, ...part } });
  }

  #write(settings: Settings): Promise<void> {
    const before = this.settings.value;
    this.settings.set(settings);
    // One after the other, so that the last change made is the one kept.
    const write = this.#writes.then(async () => {
      try {
        const kept = await this.#backend.call('settings_set', { settings });
        if (this.settings.value === settings) this.settings.set(kept);
      } catch (reason) {
        if (before && this.settings.value === settings) this.settings.set(before);
        throw reason;
      }
    });
    this.#writes = write.catch(() => undefined);
    return write;
  }
}
