import type { Doctor, MemoryPlan, NetworkNode, NetworkStatus, Settings } from '../contract';
import type { Scenario } from './scenario';

const GB = 1e9;

export const initialSettings: Settings = {
  policy: {
    kind: 'mobile',
    gamma: 0.7,
    fallback: true,
    prefetch: true,
    renormalize: false,
    share: 0.8,
  },
  chat: { system: '', temperature: 0.7, topP: 0.95, maxTokens: 2048, seed: null },
  appearance: 'system',
  autostart: false,
  shortcut: 'Alt+Space',
  folder: '~/Library/Application Support/MoBiLE/models',
  expertMemory: null,
  contextTokens: 4096,
  lan: { enabled: false, port: 8090, requireKey: true },
};

export const doctor: Doctor = {
  hostName: 'studio.local',
  chip: 'Apple M4 Pro',
  cores: 12,
  memoryBytes: 24 * GB,
  diskFreeBytes: 212 * GB,
  gpuCores: 16,
  metal: 'Metal 3',
  mlxVersion: '0.32.2',
  appVersion: '0.1.0',
  device: 'gpu',
  warnings: [],
};

export function memoryPlan(budget: number | null, loaded: number | null = budget): MemoryPlan {
  const expertBytes = 3.6 * GB;
  const leastExpertBytes = expertBytes / 64;
  const resident = Math.max(leastExpertBytes, Math.min(expertBytes, budget ?? expertBytes));
  return {
    totalBytes: 24 * GB,
    availableBytes: 17.2 * GB,
    denseBytes: 0.3 * GB,
    kvBytes: 0.54 * GB,
    expertBytes,
    leastExpertBytes,
    residentExpertBytes: resident,
    residentExperts: Math.floor((resident / expertBytes) * 1024),
    totalExperts: 1024,
    mode: resident < expertBytes ? 'streamed' : 'resident',
    pending: budget !== loaded,
  };
}

const manyNodes: NetworkNode[] = Array.from({ length: 8 }, (_, n) => ({
  name: `${n === 2 ? 'the-computer-with-the-longest-name-in-all-of-the-building-' : 'desk-'}${n + 1}.local`,
  url: `http://192.168.1.${60 + n}:8090`,
  model: 'mlx-community/Qwen1.5-MoE-A2.7B-Chat-4bit',
  load: n,
}));

export function networkFor(settings: Settings, scenario: Scenario): NetworkStatus {
  const { enabled, port } = settings.lan;
  const local = { interface: 'This computer', url: `http://127.0.0.1:${port}` };
  const shared = [
    { interface: 'Wi-Fi', url: `http://192.168.1.24:${port}` },
    { interface: 'Bonjour', url: `http://studio.local:${port}` },
  ];
  return {
    listening: true,
    lan: enabled,
    port,
    urls: enabled ? [local, ...shared] : [local],
    clients: enabled ? [{ address: '192.168.1.31', key: 'Living room Mac', requests: 12 }] : [],
    nodes: enabled
      ? [
          { name: 'mini.local', url: 'http://192.168.1.40:8090', model: 'OLMoE 1B-7B', load: 0 },
          { name: 'air.local', url: 'http://192.168.1.52:8090', model: null, load: null },
          ...(scenario === 'crowded' ? manyNodes : []),
        ]
      : [],
  };
}
