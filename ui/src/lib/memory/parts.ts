import type { MemoryPlan } from '$lib/backend/contract';

export type PartName = 'other' | 'dense' | 'experts' | 'kv' | 'free';

export interface Part {
  name: PartName;
  bytes: number;
}

/** How the whole memory would be shared out; nothing is ever less than zero. */
export function partsOf(plan: MemoryPlan): Part[] {
  const model = plan.denseBytes + plan.residentExpertBytes + plan.kvBytes;
  const other = Math.max(0, plan.totalBytes - plan.availableBytes);
  return [
    { name: 'other', bytes: other },
    { name: 'dense', bytes: plan.denseBytes },
    { name: 'experts', bytes: plan.residentExpertBytes },
    { name: 'kv', bytes: plan.kvBytes },
    { name: 'free', bytes: Math.max(0, plan.availableBytes - model) },
  ];
}
