/**
 * What the window and the shell say to each other. Types only, camelCase JSON.
 *
 * Units: bytes, seconds, tokens per second; probabilities, shares and rates are 0 to 1.
 * `null` means "not known", never zero.
 */

// ---- policy ----------------------------------------------------------------------------------

export type PolicyKind = 'auto' | 'full' | 'little' | 'mobile' | 'mass';

export interface Policy {
  kind: PolicyKind;
  /** The confidence below which a little token is generated again; above 1 every token is. */
  gamma: number;
  fallback: boolean;
  prefetch: boolean;
  renormalize: boolean;
  /** Routing mass kept by `mass`. */
  share: number;
}

// ---- chat ------------------------------------------------------------------------------------

export type Role = 'system' | 'user' | 'assistant';
export type Decision = 'little' | 'big' | 'fallback';
export type FinishReason = 'stop' | 'length' | 'cancelled';

export interface PromptMessage {
  role: Role;
  content: string;
}

export interface ChatSettings {
  system: string;
  temperature: number;
  topP: number;
  maxTokens: number;
  /** `null` draws a new seed for every answer. */
  seed: number | null;
}

export interface Stats {
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
}

export interface TokenRecord {
  text: string;
  decision: Decision;
  /** The little pass's highest probability; `null` where there was no little pass. */
  confidence: number | null;
  ms: number;
}

export type ChatEvent =
  | { type: 'started'; promptTokens: number; cachedTokens: number }
  | ({ type: 'token'; id: number } & TokenRecord)
  | { type: 'finished'; reason: FinishReason; stats: Stats }
  | { type: 'failed'; code: string; message: string };

export interface ChatRequest {
  conversationId: string;
  messages: PromptMessage[];
  settings: ChatSettings;
  policy: Policy;
}

export interface Message {
  id: string;
  role: Role;
  content: string;
  tokens: TokenRecord[] | null;
  stats: Stats | null;
  reason: FinishReason | 'failed' | null;
  error: CommandError | null;
}

export interface Conversation {
  id: string;
  title: string;
  /** Milliseconds since 1970, as are all times. */
  createdAt: number;
  updatedAt: number;
  messages: Message[];
  settings: ChatSettings;
  policy: Policy;
}

export interface ConversationSummary {
  id: string;
  title: string;
  updatedAt: number;
  /** Where a search matched. */
  excerpt: string | null;
}

// ---- models ----------------------------------------------------------------------------------

export type FitVerdict = 'fits' | 'streamed' | 'tooLarge';

export interface Fit {
  verdict: FitVerdict;
  /** The sum behind the verdict. */
  lines: { label: string; bytes: number }[];
}

export type PullStatus = 'running' | 'paused' | 'verifying' | 'failed' | 'done';

export interface PullProgress {
  status: PullStatus;
  file: string;
  bytes: number;
  total: number;
  bytesPerSecond: number | null;
  secondsLeft: number | null;
  error: CommandError | null;
}

export interface ModelEntry {
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
  fit: Fit | null;
  pull: PullProgress | null;
}

export type EngineStatus = 'empty' | 'loading' | 'ready' | 'error';

export interface EngineState {
  state: EngineStatus;
  model: string | null;
  /** 0 to 1 while loading. */
  progress: number | null;
  memoryBytes: number | null;
  message: string | null;
}

export type MemoryMode = 'resident' | 'streamed';

export interface MemoryPlan {
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
}

// ---- settings --------------------------------------------------------------------------------

export type Appearance = 'system' | 'light' | 'dark';

export interface Settings {
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
}

export interface LanSettings {
  enabled: boolean;
  port: number;
  requireKey: boolean;
}

export interface Look {
  /** The user's accent colour as `#rrggbb`. */
  accent: string | null;
  /** The window is translucent behind the page. */
  vibrancy: boolean;
}

// ---- network ---------------------------------------------------------------------------------

export interface NetworkNode {
  name: string;
  url: string;
  model: string | null;
  /** Requests running and waiting. */
  load: number | null;
}

/** Connected now or in the last minutes. */
export interface NetworkClient {
  address: string;
  /** The name of the key it last showed. */
  key: string | null;
  requests: number;
}

export interface NetworkStatus {
  listening: boolean;
  lan: boolean;
  port: number;
  urls: { interface: string; url: string }[];
  clients: NetworkClient[];
  nodes: NetworkNode[];
}

export interface KeyEntry {
  id: string;
  name: string;
  createdAt: number;
  /** Since the app was started. */
  lastUsedAt: number | null;
}

export interface NewKey {
  key: KeyEntry;
  /** Said once; only its hash is kept. */
  secret: string;
}

// ---- live ------------------------------------------------------------------------------------

/** How often each expert of each layer was computed with: `[layers, experts]`, row by row. */
export interface ExpertUse {
  experts: number;
  /** In passes with fewer experts. */
  little: number[];
  /** In passes with all experts. */
  big: number[];
}

export interface LiveSample {
  /** Seconds since the engine started. */
  t: number;
  generating: boolean;
  tokensPerSecond: number | null;
  importanceRate: number | null;
  fallbackRate: number | null;
  /** Twenty bins from 0 to 1. */
  confidenceHistogram: number[];
  gamma: number;
  /** `null` where all experts are resident. */
  cacheHitRate: number | null;
  bytesReadPerSecond: number | null;
  memoryBytes: number;
  queue: number;
  /** Since the last sample; `null` where nothing was computed. */
  experts: ExpertUse | null;
}

export interface CalibrationPoint {
  gamma: number;
  tokensPerSecond: number;
  /** Perplexity over that of all experts; 1 is equal. */
  perplexityRatio: number;
  fallbackRate: number;
}

export interface Calibration {
  model: string;
  device: string;
  measuredAt: number;
  tokens: number;
  points: CalibrationPoint[];
  /** Twenty bins from 0 to 1. */
  confidenceHistogram: number[];
  /** The fastest threshold whose perplexity grows by at most `bound`. */
  recommended: number;
  bound: number;
  /** Every threshold was measured. */
  complete: boolean;
}

export interface CalibrationProgress {
  /** Policies that are done, plain decoding included. */
  done: number;
  total: number;
  /** Of the work. */
  share: number;
  /** A threshold that is known now. */
  point: CalibrationPoint | null;
}

export type CalibrationEvent =
  | ({ type: 'progress' } & CalibrationProgress)
  | { type: 'finished'; calibration: Calibration }
  /** Ended early with nothing worth keeping in place of what was there. */
  | { type: 'stopped' }
  | { type: 'failed'; code: string; message: string };

// ---- system ----------------------------------------------------------------------------------

export interface Doctor {
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
  warnings: string[];
}

export type WindowName = 'chat' | 'settings';

// ---- commands --------------------------------------------------------------------------------

/** What every command rejects with. `unavailable`: this build cannot do it. */
export interface CommandError {
  code: string;
  message: string;
}

type None = Record<string, never>;

/** Tauri commands that answer once. */
export interface Commands {
  chat_stop: { args: { id: string }; result: null };
  chat_set_policy: { args: { id: string; policy: Policy }; result: null };

  conversations_list: { args: None; result: ConversationSummary[] };
  conversations_search: { args: { query: string }; result: ConversationSummary[] };
  conversation_get: { args: { id: string }; result: Conversation };
  conversation_save: { args: { conversation: Conversation }; result: null };
  conversation_rename: { args: { id: string; title: string }; result: null };
  conversation_delete: { args: { id: string }; result: null };

  models_list: { args: None; result: ModelEntry[] };
  model_load: { args: { id: string }; result: null };
  model_unload: { args: None; result: null };
  model_delete: { args: { id: string }; result: null };
  model_import: { args: { path: string }; result: ModelEntry };
  pull_pause: { args: { id: string }; result: null };
  pull_cancel: { args: { id: string }; result: null };
  engine_state: { args: None; result: EngineState };
  memory_plan: { args: { expertMemory: number | null }; result: MemoryPlan };

  settings_get: { args: None; result: Settings };
  settings_set: { args: { settings: Settings }; result: Settings };
  settings_reset: { args: None; result: Settings };
  autostart_set: { args: { enabled: boolean }; result: null };
  look_get: { args: None; result: Look };
  /** A native folder dialog; `null` when it was cancelled. */
  folder_choose: { args: None; result: string | null };
  /** Opens an http(s) link in the user's browser. */
  link_open: { args: { url: string }; result: null };
  logs_open: { args: None; result: null };
  window_open: { args: { window: WindowName; page: string | null }; result: null };

  network_status: { args: None; result: NetworkStatus };
  lan_set: { args: { enabled: boolean }; result: NetworkStatus };
  keys_list: { args: None; result: KeyEntry[] };
  key_create: { args: { name: string }; result: NewKey };
  key_revoke: { args: { id: string }; result: null };

  live_unsubscribe: { args: None; result: null };
  calibration_get: { args: None; result: Calibration | null };
  calibrate_stop: { args: None; result: null };
  doctor: { args: None; result: Doctor };
}

/** Tauri commands with a `channel` argument; they answer once the work is accepted. */
export interface Streams {
  chat_send: { args: ChatRequest; event: ChatEvent };
  model_pull: { args: { id: string }; event: PullProgress };
  /** Goes on with a paused or failed download, or listens to a running one. */
  pull_resume: { args: { id: string }; event: PullProgress };
  live_subscribe: { args: None; event: LiveSample };
  calibrate: { args: None; event: CalibrationEvent };
}

/** Events sent to every window. */
export interface Events {
  engine: EngineState;
  models: ModelEntry[];
  settings: Settings;
  network: NetworkStatus;
  look: Look;
  /** The tray asks the settings window for one of its pages. */
  page: string;
}

export type CommandName = keyof Commands;
export type StreamName = keyof Streams;
export type EventName = keyof Events;
