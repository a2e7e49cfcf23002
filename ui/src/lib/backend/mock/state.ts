import type { EventName } from '../backend';
import type { CommandError, EngineState, Events } from '../contract';
import type { Calibration, KeyEntry, PullProgress, Settings } from '../contract';
import type { MockAnswer } from './chat';
import { conversationsFor } from './conversations';
import { calibration, MockLive } from './live';
import { modelsFor, olmoe } from './models';
import type { MockOptions } from './scenario';
import { initialSettings } from './settings';

type Handlers = { [E in EventName]?: Set<(payload: Events[E]) => void> };

const unavailable = /^(calibrat|live|keys|key_|memory|doctor|model_import|autostart)/;

const writes = /^(conversation_(save|rename)|settings_set|key_create)$/;

const manyKeys: KeyEntry[] = Array.from({ length: 12 }, (_, n) => ({
  id: `k${n + 1}`,
  name:
    n === 3
      ? 'The-computer-with-the-longest-name-in-all-of-the-building'.repeat(2)
      : `Desk ${n + 1}`,
  createdAt: Date.UTC(2025, n, 2),
  lastUsedAt: n % 2 === 0 ? null : Date.UTC(2025, n, 20),
}));

export interface MockPull {
  progress: PullProgress;
  timer: ReturnType<typeof setInterval> | undefined;
  emit: (progress: PullProgress) => void;
}

export class MockState {
  readonly options: MockOptions;
  readonly conversations: ReturnType<typeof conversationsFor>;
  readonly models: ReturnType<typeof modelsFor>;
  readonly answers = new Map<string, MockAnswer>();
  readonly pulls = new Map<string, MockPull>();
  readonly live = new MockLive();
  liveTimer: ReturnType<typeof setInterval> | undefined;
  calibrationTimer: ReturnType<typeof setInterval> | undefined;
  calibrationEnd: (() => void) | undefined;
  /** The budget that the loaded model was loaded with. */
  loadedMemory: number | null = null;
  calibration: Calibration | null;
  settings: Settings = structuredClone(initialSettings);
  keys: KeyEntry[] = [];
  engine: EngineState;
  readonly #handlers: Handlers = {};

  constructor(options: MockOptions) {
    const { scenario } = options;
    this.options = options;
    this.models = modelsFor(scenario);
    this.conversations = conversationsFor(scenario);
    this.calibration = scenario === 'empty' ? null : calibration;
    this.engine = engineFor(options);
    if (scenario === 'lan' || scenario === 'crowded') this.settings.lan.enabled = true;
    if (scenario !== 'empty') {
      this.keys = [
        { id: 'k1', name: 'Living room Mac', createdAt: Date.UTC(2026, 1, 2), lastUsedAt: null },
      ];
    }
    if (scenario === 'crowded') this.keys = manyKeys;
  }

  listen<E extends EventName>(event: E, handler: (payload: Events[E]) => void): () => void {
    const set = (this.#handlers[event] ??= new Set() as never) as Set<typeof handler>;
    set.add(handler);
    return () => set.delete(handler);
  }

  emit<E extends EventName>(event: E, payload: Events[E]): void {
    const set = this.#handlers[event] as Set<(payload: Events[E]) => void> | undefined;
    set?.forEach((handler) => handler(structuredClone(payload)));
  }

  /** Throws what the scenario wants this command to fail with. */
  refuse(command: string): void {
    const { scenario } = this.options;
    if (scenario === 'offline') {
      throw error('offline', 'The engine process is not running.');
    }
    if (scenario === 'fulldisk' && writes.test(command)) {
      throw error(
        'disk',
        'not saved: /Users/ada/Library/MoBiLE/settings.json: No space left on device',
      );
    }
    if (scenario === 'unavailable' && unavailable.test(command)) {
      throw error('unavailable', `${command} is not part of this build.`);
    }
  }

  setEngine(part: Partial<EngineState>): void {
    this.engine = { ...this.engine, ...part };
    this.emit('engine', this.engine);
  }
}

export function error(code: string, message: string): CommandError {
  return { code, message };
}

function engineFor({ scenario }: MockOptions): EngineState {
  const none = { model: null, progress: null, memoryBytes: null, message: null };
  if (scenario === 'empty' || scenario === 'nomodel') return { ...none, state: 'empty' };
  if (scenario === 'loading') return { ...none, state: 'loading', model: olmoe, progress: 0.42 };
  if (scenario === 'loadfail') {
    const message = 'keys and values for 4,096 tokens do not fit in memory';
    return { ...none, state: 'error', model: olmoe, message };
  }
  return { ...none, state: 'ready', model: olmoe, memoryBytes: 4.6e9 };
}
