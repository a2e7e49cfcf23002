import type { Policy, PolicyKind } from '$lib/backend/contract';

export const policyKinds: PolicyKind[] = ['auto', 'full', 'mobile', 'little', 'mass'];

export const defaultPolicy: Policy = {
  kind: 'auto',
  gamma: 0.7,
  fallback: true,
  prefetch: true,
  renormalize: false,
  share: 0.8,
};

export function samePolicy(a: Policy, b: Policy): boolean {
  return (Object.keys(a) as (keyof Policy)[]).every((name) => a[name] === b[name]);
}

/** γ has a meaning only where a little token can be judged. */
export function usesGamma(policy: Policy): boolean {
  return policy.kind === 'mobile' || policy.kind === 'auto';
}
