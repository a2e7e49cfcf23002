/**
 * What the window and the shell say to each other, as JSON. `npm run contract` writes this file from the Rust half,
 * `src-tauri/src/contract`, and from the commands and events beside it.
 *
 * Units: bytes, seconds, tokens per second; probabilities, shares and rates are 0 to 1.
 * `null` means "not known", never zero.
 */

export type Appearance = 'system' | 'light' | 'dark';

export type Calibration = {
  model: string;
  device: string;
  measuredAt: number;
  tokens: number;
  points: Array<CalibrationPoint>;
  /** Twenty bins from 0 to 1. */
  confidenceHistogram: Array<number>;
  /** The fastest threshold whose perplexity grows by at most `bound`. */
  recommended: number;
  bound: number;
  /** Every threshold was measured. */
  complete: boolean;
};

export type CalibrationEvent =
  | ({ type: 'progress' } & CalibrationProgress)
  | { type: 'finished'; calibration: Calibration }
  | { type: 'stopped' }
  | { type: 'failed'; code: string; message: string };

export type CalibrationPoint = {
  gamma: number;
  tokensPerSecond: number;
  /** Perplexity over that of all experts; 1 is equal. */
  perplexityRatio: number;
  fallbackRate: number;
};

export type CalibrationProgress = {
  /** Policies that are done, plain decoding included. */
  done: number;
  total: number;
  /** Of the work. */
  share: number;
  /** A threshold that is known now. */
  point: CalibrationPoint | null;
};

export type ChatEvent =
  | { type: 'started'; promptTokens: number; cachedTokens: number }
  | {
      type: 'token';
      id: number;
      text: string;
      decision: Decision;
      /** The little pass's highest probability; `null` where there was no little pass. */
      confidence: number | null;
      ms: number;
    }
  | { type: 'finished'; reason: FinishReason; stats: Stats }
  | { type: 'failed'; code: string; message: string };

export type ChatSettings = {
  system: string;
  temperature: number;
  topP: number;
  maxTokens: number;
  /** `null` draws a new seed for every answer. */
  seed: number | null;
};

/** A code that the window can match, and a message that says what happened and what to do. `unavailable`: this build
 * cannot do it. */
export type CommandError = { code: string; message: string };

export type Conversation = {
  id: string;
  title: string;
  /** Milliseconds since 1970, as are all times. */
  createdAt: number;
  updatedAt: number;
  messages: Array<Message>;
  settings: ChatSettings;
  policy: Policy;
};

export type ConversationSummary = {
  id: string;
  title: string;
  updatedAt: number;
  /** Where a search matched. */
  excerpt: string | null;
};

export type Decision = 'little' | 'big' | 'fallback';

export type Doctor = {
  hostName: string;
  chip: string;
  cores: number;
  memoryBytes: number;
  diskFreeBytes: number;
  gpuCores: number | null;
  metal: string | null;
  mlxVersion: string;
  appVersion: string;
  device: string;
  warnings: Array<string>;
};

export type EngineState = {
  state: EngineStatus;
  model: string | null;
  /** 0 to 1 while loading. */
  progress: number | null;
  memoryBytes: number | null;
  message: string | null;
};

export type EngineStatus = 'empty' | 'loading' | 'ready' | 'error';

/** How often each expert of each layer was computed with: `[layers, experts]`, row by row. */
export type ExpertUse = {
  experts: number;
  /** In passes with fewer experts. */
  little: Array<number>;
  /** In passes with all experts. */
  big: Array<number>;
};

export type FinishReason = 'stop' | 'length' | 'cancelled';

export type Fit = {
  verdict: FitVerdict;
  /** The sum behind the verdict. */
  lines: Array<FitLine>;
};

export type FitLine = { label: string; bytes: number };

export type FitVerdict = 'fits' | 'streamed' | 'tooLarge';

/** Why a kept answer ended. */
export type KeptReason = 'stop' | 'length' | 'cancelled' | 'failed';

export type KeyEntry = {
  id: string;
  name: string;
  createdAt: number;
  /** Since the app was started. */
  lastUsedAt: number | null;
};

export type LanSettings = { enabled: boolean; port: number; requireKey: boolean };

export type LiveSample = {
  /** Seconds since the engine started. */
  t: number;
  generating: boolean;
  tokensPerSecond: number | null;
  importanceRate: number | null;
  fallbackRate: number | null;
  /** Twenty bins from 0 to 1. */
  confidenceHistogram: Array<number>;
  gamma: number;
  /** `null` where all experts are resident. */
  cacheHitRate: number | null;
  bytesReadPerSecond: number | null;
  memoryBytes: number;
  queue: number;
  /** Since the last sample; `null` where nothing was computed. */
  experts: ExpertUse | null;
};

export type Look = {
  /** The user's accent colour as `#rrggbb`. */
  accent: string | null;
  /** The window is translucent behind the page. */
  vibrancy: boolean;
};

export type MemoryMode = 'resident' | 'streamed';

export type MemoryPlan = {
  totalBytes: number;
  /** Free, or taken by the model that is loaded. */
  availableBytes: number;
  denseBytes: number;
  kvBytes: number;
  expertBytes: number;
  /** One expert of each layer; a model cannot do with less. */
  leastExpertBytes: number;
  residentExpertBytes: number;
  residentExperts: number;
  totalExperts: number;
  mode: MemoryMode;
  /** The model was loaded otherwise and takes this on when it is loaded again. */
  pending: boolean;
};

export type Message = {
  id: string;
  role: Role;
  content: string;
  tokens: Array<TokenRecord> | null;
  stats: Stats | null;
  reason: KeptReason | null;
  error: CommandError | null;
};

export type ModelEntry = {
  id: string;
  name: string;
  family: string;
  quantization: string;
  /** Experts in each layer, and how many the big model uses for one token. */
  experts: number;
  topK: number;
  parameters: number;
  bytes: number;
  contextTokens: number;
  installed: boolean;
  /** Part of the app; cannot be deleted. */
  embedded: boolean;
  /** The folder is the user's own; removing the model leaves it. */
  inPlace: boolean;
  fit: Fit | null;
  pull: PullProgress | null;
};

/** Connected now or in the last minutes. */
export type NetworkClient = {
  address: string;
  /** The name of the key it last showed. */
  key: string | null;
  requests: number;
};

export type NetworkNode = {
  name: string;
  url: string;
  model: string | null;
  /** Requests running and waiting. */
  load: number | null;
};

export type NetworkStatus = {
  listening: boolean;
  lan: boolean;
  port: number;
  urls: Array<NetworkUrl>;
  clients: Array<NetworkClient>;
  nodes: Array<NetworkNode>;
};

export type NetworkUrl = { interface: string; url: string };

export type NewKey = {
  key: KeyEntry;
  /** Said once; only its hash is kept. */
  secret: string;
};

export type Policy = {
  kind: PolicyKind;
  /** The confidence below which a little token is generated again; above 1 every token is. */
  gamma: number;
  fallback: boolean;
  prefetch: boolean;
  renormalize: boolean;
  /** Routing mass kept by `mass`. */
  share: number;
};

export type PolicyKind = 'auto' | 'full' | 'little' | 'mobile' | 'mass';

export type PromptMessage = { role: Role; content: string };

export type PullProgress = {
  status: PullStatus;
  file: string;
  bytes: number;
  total: number;
  bytesPerSecond: number | null;
  secondsLeft: number | null;
  error: CommandError | null;
};

export type PullStatus = 'running' | 'paused' | 'verifying' | 'failed' | 'done';

export type Role = 'system' | 'user' | 'assistant';

/** A field that an older version did not write takes its default. */
export type Settings = {
  policy: Policy;
  chat: ChatSettings;
  appearance: Appearance;
  autostart: boolean;
  shortcut: string | null;
  folder: string;
  /** Bytes kept for experts; `null` lets the engine decide. */
  expertMemory: number | null;
  contextTokens: number;
  lan: LanSettings;
};

export type Stats = {
  elapsedSeconds: number;
  tokensGenerated: number;
  tokensPerSecond: number;
  promptTokens: number;
  prefillSeconds: number;
  importantTokens: number;
  unimportantTokens: number;
  fallbacks: number;
  expertsComputed: number;
  /** What K experts for every token would have computed. */
  expertsFull: number;
  cacheHits: number;
  peakMemoryBytes: number;
  device: string;
  model: string;
  policy: PolicyKind;
  /** What `auto` chose, and why; `null` under every other policy. */
  chosen: PolicyKind | null;
  why: string | null;
};

export type TokenRecord = {
  text: string;
  decision: Decision;
  /** The little pass's highest probability; `null` where there was no little pass. */
  confidence: number | null;
  ms: number;
};

export type WindowName = 'chat' | 'settings';

/** Commands that answer once. All reject with a `CommandError`. */
export interface Commands {
  calibration_get: { args: Record<string, never>; result: Calibration | null };
  calibrate_stop: { args: Record<string, never>; result: null };
  chat_stop: { args: { id: string }; result: null };
  chat_set_policy: { args: { id: string; policy: Policy }; result: null };
  conversations_list: { args: Record<string, never>; result: Array<ConversationSummary> };
  conversations_search: { args: { query: string }; result: Array<ConversationSummary> };
  conversation_get: { args: { id: string }; result: Conversation };
  conversation_save: { args: { conversation: Conversation }; result: null };
  conversation_rename: { args: { id: string; title: string }; result: null };
  conversation_delete: { args: { id: string }; result: null };
  live_unsubscribe: { args: Record<string, never>; result: null };
  models_list: { args: Record<string, never>; result: Array<ModelEntry> };
  model_load: { args: { id: string }; result: null };
  model_unload: { args: Record<string, never>; result: null };
  model_delete: { args: { id: string }; result: null };
  model_import: { args: { path: string }; result: ModelEntry };
  pull_pause: { args: { id: string }; result: null };
  /** Ends a download and removes what had arrived. */
  pull_cancel: { args: { id: string }; result: null };
  engine_state: { args: Record<string, never>; result: EngineState };
  /** The memory of the model in use, were it loaded again with this budget. */
  memory_plan: { args: { expertMemory: number | null }; result: MemoryPlan };
  network_status: { args: Record<string, never>; result: NetworkStatus };
  lan_set: { args: { enabled: boolean }; result: NetworkStatus };
  keys_list: { args: Record<string, never>; result: Array<KeyEntry> };
  key_create: { args: { name: string }; result: NewKey };
  key_revoke: { args: { id: string }; result: null };
  settings_get: { args: Record<string, never>; result: Settings };
  settings_set: { args: { settings: Settings }; result: Settings };
  settings_reset: { args: Record<string, never>; result: Settings };
  autostart_set: { args: { enabled: boolean }; result: null };
  look_get: { args: Record<string, never>; result: Look };
  /** A native folder dialog; nothing when it was cancelled. */
  folder_choose: { args: Record<string, never>; result: string | null };
  /** Opens a link of an answer. Models write what they like, so only web pages are opened. */
  link_open: { args: { url: string }; result: null };
  logs_open: { args: Record<string, never>; result: null };
  window_open: { args: { window: WindowName; page: string | null }; result: null };
  /** As the button in a title bar, which the popover has not. */
  window_close: { args: Record<string, never>; result: null };
  doctor: { args: Record<string, never>; result: Doctor };
}

/** Commands that answer once the work is accepted, and tell how it goes on. */
export interface Streams {
  calibrate: { args: Record<string, never>; event: CalibrationEvent };
  chat_send: {
    args: {
      conversationId: string;
      messages: Array<PromptMessage>;
      settings: ChatSettings;
      policy: Policy;
    };
    event: ChatEvent;
  };
  live_subscribe: { args: Record<string, never>; event: LiveSample };
  model_pull: { args: { id: string }; event: PullProgress };
  /** Goes on with a paused or failed download, or listens to a running one. */
  pull_resume: { args: { id: string }; event: PullProgress };
}

/** What the shell says by itself. */
export interface Events {
  engine: EngineState;
  models: Array<ModelEntry>;
  settings: Settings;
  network: NetworkStatus;
  look: Look;
  page: string;
}
