import type { ModelEntry } from '../contract';
import type { Scenario } from './scenario';

const GB = 1e9;
const memory = 24 * GB;

type Line = [string, number];

function fit(weights: number, experts: number, context: number): NonNullable<ModelEntry['fit']> {
  const lines: Line[] = [
    ['Always needed', weights - experts],
    ['Experts', experts],
    ['Conversation', context],
    ['This computer has for models', memory * 0.75],
  ];
  const total = weights + context;
  const verdict =
    total < memory * 0.75
      ? 'fits'
      : weights - experts + context < memory * 0.4
        ? 'streamed'
        : 'tooLarge';
  return { verdict, lines: lines.map(([label, bytes]) => ({ label, bytes })) };
}

const base = { installed: false, embedded: false, inPlace: false, pull: null };

const catalogue: ModelEntry[] = [
  {
    ...base,
    id: 'mobile/tiny-moe',
    name: 'Tiny MoE',
    family: 'OLMoE',
    quantization: '8-bit',
    experts: 16,
    topK: 4,
    parameters: 62e6,
    bytes: 68e6,
    contextTokens: 2048,
    installed: true,
    embedded: true,
    fit: fit(68e6, 51e6, 0.02 * GB),
  },
  {
    ...base,
    id: 'mlx-community/OLMoE-1B-7B-0125-Instruct-4bit',
    name: 'OLMoE 1B-7B Instruct',
    family: 'OLMoE',
    quantization: '4-bit',
    experts: 64,
    topK: 8,
    parameters: 6.92e9,
    bytes: 3.9 * GB,
    contextTokens: 4096,
    installed: true,
    fit: fit(3.9 * GB, 3.6 * GB, 0.54 * GB),
  },
  {
    ...base,
    id: 'mlx-community/Qwen1.5-MoE-A2.7B-Chat-4bit',
    name: 'Qwen1.5-MoE A2.7B Chat',
    family: 'Qwen-MoE',
    quantization: '4-bit',
    experts: 60,
    topK: 4,
    parameters: 14.3e9,
    bytes: 8.1 * GB,
    contextTokens: 8192,
    fit: fit(8.1 * GB, 6.9 * GB, 1.6 * GB),
  },
  {
    ...base,
    id: 'mlx-community/Mixtral-8x7B-Instruct-v0.1-4bit',
    name: 'Mixtral 8x7B Instruct',
    family: 'Mixtral',
    quantization: '4-bit',
    experts: 8,
    topK: 2,
    parameters: 46.7e9,
    bytes: 26.3 * GB,
    contextTokens: 32768,
    fit: fit(26.3 * GB, 25.4 * GB, 4.3 * GB),
  },
  {
    ...base,
    id: 'mistralai/Mixtral-8x7B-Instruct-v0.1',
    name: 'Mixtral 8x7B Instruct',
    family: 'Mixtral',
    quantization: 'bf16',
    experts: 8,
    topK: 2,
    parameters: 46.7e9,
    bytes: 93.4 * GB,
    contextTokens: 32768,
    fit: { ...fit(93.4 * GB, 90.2 * GB, 4.3 * GB), verdict: 'tooLarge' },
  },
];

export function modelsFor(scenario: Scenario): ModelEntry[] {
  const models = structuredClone(catalogue);
  if (scenario === 'empty' || scenario === 'nomodel') {
    for (const model of models) model.installed = false;
  }
  return models;
}

export const olmoe = 'mlx-community/OLMoE-1B-7B-0125-Instruct-4bit';
export const qwen = 'mlx-community/Qwen1.5-MoE-A2.7B-Chat-4bit';
