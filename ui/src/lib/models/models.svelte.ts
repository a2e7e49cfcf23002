import { SvelteMap } from 'svelte/reactivity';
import { Action } from '$lib/backend/action.svelte';
import type { Backend } from '$lib/backend/backend';
import { asCommandError } from '$lib/backend/backend';
import type { EngineState, ModelEntry, PullProgress } from '$lib/backend/contract';
import { Resource } from '$lib/backend/resource.svelte';

/** The library of models, the downloads under way, and what the engine holds. */
export class Models {
  readonly list: Resource<ModelEntry[]>;
  readonly engine: Resource<EngineState>;
  readonly pulls = new SvelteMap<string, PullProgress>();
  readonly load: Action<[string]>;
  readonly unload: Action;
  readonly remove: Action<[string]>;
  readonly import: Action;
  readonly installed = $derived.by(() => (this.list.value ?? []).filter((m) => m.installed));
  readonly current = $derived.by(() =>
    (this.list.value ?? []).find((m) => m.id === this.engine.value?.model),
  );
  readonly #backend: Backend;

  constructor(backend: Backend) {
    this.#backend = backend;
    this.list = new Resource(() => backend.call('models_list', {}));
    this.engine = new Resource(() => backend.call('engine_state', {}));
    this.load = new Action((id: string) => backend.call('model_load', { id }));
    this.unload = new Action(() => backend.call('model_unload', {}));
    this.remove = new Action(async (id: string) => {
      await backend.call('model_delete', { id });
      await this.list.refresh();
    });
    this.import = new Action(async () => {
      const path = await backend.call('folder_choose', {});
      if (path === null) return;
      await backend.call('model_import', { path });
      await this.list.refresh();
    });
  }

  async start(): Promise<() => void> {
    const [stopEngine, stopModels] = await Promise.all([
      this.#backend.listen('engine', (state) => this.engine.set(state)),
      this.#backend.listen('models', (models) => this.#adopt(models)),
    ]);
    await Promise.all([this.list.refresh(), this.engine.refresh()]);
    if (this.list.value) this.#adopt(this.list.value);
    return () => {
      stopEngine();
      stopModels();
    };
  }

  nameOf(id: string): string {
    return this.list.value?.find((model) => model.id === id)?.name ?? id;
  }

  pull = (id: string): Promise<void> => this.#follow(id, 'model_pull');
  resume = (id: string): Promise<void> => this.#follow(id, 'pull_resume');

  pause = (id: string): Promise<void> => this.#tell(id, 'pull_pause');

  cancel = async (id: string): Promise<void> => {
    await this.#tell(id, 'pull_cancel');
    if (this.pulls.get(id)?.status !== 'failed') this.pulls.delete(id);
    await this.list.refresh();
  };

  async #follow(id: string, command: 'model_pull' | 'pull_resume'): Promise<void> {
    const before = this.pulls.get(id);
    this.pulls.set(id, { ...(before ?? starting), status: 'running', error: null });
    try {
      await this.#backend.stream(command, { id }, (progress) => {
        if (progress.status === 'done') {
          this.pulls.delete(id);
          void this.list.refresh();
        } else {
          this.pulls.set(id, progress);
        }
      });
    } catch (reason) {
      this.#fail(id, reason);
    }
  }

  async #tell(id: string, command: 'pull_pause' | 'pull_cancel'): Promise<void> {
    try {
      await this.#backend.call(command, { id });
    } catch (reason) {
      this.#fail(id, reason);
    }
  }

  #fail(id: string, reason: unknown): void {
    const before = this.pulls.get(id) ?? starting;
    this.pulls.set(id, { ...before, status: 'failed', error: asCommandError(reason) });
  }

  // A window opened during a download has no channel to it yet.
  #adopt(models: ModelEntry[]): void {
    this.list.set(models);
    for (const { id, pull } of models) {
      if (!pull || this.pulls.has(id)) continue;
      this.pulls.set(id, pull);
      if (pull.status === 'running' || pull.status === 'verifying') void this.resume(id);
    }
  }
}

const starting: PullProgress = {
  status: 'running',
  file: '',
  bytes: 0,
  total: 0,
  bytesPerSecond: null,
  secondsLeft: null,
  error: null,
};
