import { getContext, setContext } from 'svelte';
import type { Backend } from './backend/backend';
import { Action } from './backend/action.svelte';
import type { WindowName } from './backend/contract';
import { Models } from './models/models.svelte';
import { Calibration } from './policy/calibration.svelte';
import { Preferences } from './settings/preferences.svelte';

/** What both windows share: the backend and the state every subject looks at. */
export class App {
  readonly backend: Backend;
  readonly models: Models;
  /** Measuring goes on while another page is looked at. */
  readonly calibration: Calibration;
  readonly preferences: Preferences;
  readonly openWindow: Action<[WindowName, string | null]>;
  readonly closeWindow: Action;
  readonly openLink: Action<[string]>;

  constructor(backend: Backend) {
    this.backend = backend;
    this.models = new Models(backend);
    this.calibration = new Calibration(backend);
    this.preferences = new Preferences(backend);
    this.openWindow = new Action((window: WindowName, page: string | null) =>
      backend.call('window_open', { window, page }),
    );
    this.closeWindow = new Action(() => backend.call('window_close', {}));
    this.openLink = new Action((url: string) => backend.call('link_open', { url }));
  }

  /** Starts listening; resolves to the function that stops. */
  async start(): Promise<() => void> {
    const stops = await Promise.all([this.models.start(), this.preferences.start()]);
    return () => stops.forEach((stop) => stop());
  }
}

const key = Symbol('app');
export const provideApp = (app: App): App => setContext(key, app);
export const useApp = (): App => getContext<App>(key);
