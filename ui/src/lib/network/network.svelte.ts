import { Action } from '$lib/backend/action.svelte';
import type { Backend } from '$lib/backend/backend';
import type { KeyEntry, NetworkStatus, NewKey } from '$lib/backend/contract';
import { Resource } from '$lib/backend/resource.svelte';
import { whileVisible } from '$lib/ui/visible';

/** Clients and nodes come and go without being announced. */
const period = 2000;

/** Who can reach the endpoint, and with which keys. */
export class Network {
  readonly status: Resource<NetworkStatus>;
  readonly keys: Resource<KeyEntry[]>;
  readonly setLan: Action<[boolean]>;
  readonly createKey: Action<[string]>;
  readonly revokeKey: Action<[string]>;
  /** Shown until the page is left; the backend will not say it again. */
  fresh = $state.raw<NewKey | null>(null);
  readonly #backend: Backend;

  constructor(backend: Backend) {
    this.#backend = backend;
    this.status = new Resource(() => backend.call('network_status', {}));
    this.keys = new Resource(() => backend.call('keys_list', {}));
    this.setLan = new Action(async (enabled: boolean) => {
      this.status.set(await backend.call('lan_set', { enabled }));
    });
    this.createKey = new Action(async (name: string) => {
      this.fresh = await backend.call('key_create', { name });
      await this.keys.refresh();
    });
    this.revokeKey = new Action(async (id: string) => {
      await backend.call('key_revoke', { id });
      if (this.fresh?.key.id === id) this.fresh = null;
      await this.keys.refresh();
    });
  }

  async start(): Promise<() => void> {
    const stop = await this.#backend.listen('network', (status) => this.status.set(status));
    await Promise.all([this.status.refresh(), this.keys.refresh()]);
    const stopAsking = whileVisible(() => {
      const timer = setInterval(() => {
        if (this.status.value?.lan) void this.status.refresh();
      }, period);
      return () => clearInterval(timer);
    });
    return () => {
      stopAsking();
      stop();
    };
  }
}
