import type { Stats } from '$lib/backend/contract';
import { strings } from '$lib/strings';
import { bytes, count, duration, percent, rate } from '$lib/ui/format';

/** The line under an answer; a part that means nothing under the policy is left out. */
export function summaryParts(stats: Stats): string[] {
  const { tokensGenerated, unimportantTokens, importantTokens, fallbacks } = stats;
  const parts = [strings.chat.summarySpeed(rate(stats.tokensPerSecond))];
  const judged = unimportantTokens + importantTokens;
  const ran = stats.chosen ?? stats.policy;
  if (judged > 0 && (ran === 'mobile' || ran === 'little')) {
    parts.push(strings.chat.summaryLittle(percent(1 - fallbacks / Math.max(1, tokensGenerated))));
    if (ran === 'mobile') parts.push(strings.chat.summaryFallbacks(count(fallbacks)));
  }
  const saved = 1 - stats.expertsComputed / Math.max(1, stats.expertsFull);
  if (saved > 0) parts.push(strings.chat.summarySaved(percent(saved)));
  parts.push(duration(stats.elapsedSeconds));
  return parts;
}

export function summaryRows(stats: Stats): [label: string, value: string][] {
  const words = strings.chat.summaryRows;
  const rows: [string, string][] = [
    [words.tokens, count(stats.tokensGenerated)],
    [words.prompt, words.promptValue(count(stats.promptTokens), duration(stats.prefillSeconds))],
    [words.policy, strings.policy.names[stats.policy]],
  ];
  if (stats.chosen) {
    const why = stats.why ? `. ${stats.why}` : '';
    rows.push([words.chosen, strings.policy.names[stats.chosen] + why]);
  }
  return [
    ...rows,
    [words.experts, words.expertsValue(count(stats.expertsComputed), count(stats.expertsFull))],
    [words.cache, count(stats.cacheHits)],
    [words.memory, bytes(stats.peakMemoryBytes)],
    [words.model, stats.model],
    [words.device, stats.device],
  ];
}
