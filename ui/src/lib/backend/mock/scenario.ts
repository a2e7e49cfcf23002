export const scenarios = [
  'default',
  'empty',
  'loading',
  'streaming',
  'error',
  'offline',
  'nomodel',
  'downloadfail',
  'loadfail',
  'long',
  'unavailable',
  'lan',
  'crowded',
  'fulldisk',
] as const;

export type Scenario = (typeof scenarios)[number];

export interface MockOptions {
  scenario: Scenario;
  /** Milliseconds between two tokens. */
  tick: number;
  accent: string | null;
}

/** Reads `?mock=streaming&tick=5&accent=a550a7`. */
export function optionsFrom(search: string): MockOptions {
  const query = new URLSearchParams(search);
  const wanted = query.get('mock');
  const accent = query.get('accent');
  return {
    scenario: scenarios.find((scenario) => scenario === wanted) ?? 'default',
    tick: Number(query.get('tick') ?? 18),
    accent: accent === null ? null : `#${accent}`,
  };
}
