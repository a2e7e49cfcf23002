import { describe, expect, it } from 'vitest';
import type { Stats } from '$lib/backend/contract';
import { summaryParts, summaryRows } from './summary';

const stats: Stats = {
  elapsedSeconds: 2.5,
  tokensGenerated: 200,
  tokensPerSecond: 80,
  promptTokens: 128,
  prefillSeconds: 0.2,
  importantTokens: 50,
  unimportantTokens: 150,
  fallbacks: 50,
  expertsComputed: 750,
  expertsFull: 1000,
  cacheHits: 0,
  peakMemoryBytes: 4.6e9,
  device: 'gpu',
  model: 'olmoe',
  policy: 'mobile',
  chosen: null,
  why: null,
};

describe('the line under an answer', () => {
  it('says what MoBiLE did', () => {
    expect(summaryParts(stats)).toEqual([
      '80.0 tok/s',
      '75% half',
      '50 regenerated',
      '25% fewer experts',
      '2.5 s',
    ]);
  });

  it('leaves out what all experts never do', () => {
    const full = { policy: 'full', fallbacks: 0, importantTokens: 0, expertsComputed: 1000 };
    expect(summaryParts({ ...stats, ...full } as Stats)).toEqual(['80.0 tok/s', '2.5 s']);
  });

  it('does not call more experts a saving', () => {
    expect(summaryParts({ ...stats, expertsComputed: 1200 }).join()).not.toContain('fewer');
  });

  it('explains what was chosen', () => {
    const rows = summaryRows({ ...stats, policy: 'auto', chosen: 'full', why: 'It is faster.' });
    expect(rows).toContainEqual(['Chosen', 'All experts. It is faster.']);
  });
});
