import type { Appearance, Look } from '$lib/backend/contract';

/** The relative luminance of `#rrggbb`, as WCAG 2 defines it. */
export function luminance(color: string): number {
  const channel = (from: number) => {
    const value = parseInt(color.slice(from, from + 2), 16) / 255;
    return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  };
  return 0.2126 * channel(1) + 0.7152 * channel(3) + 0.0722 * channel(5);
}

/** Black or white, whichever is easier to read on `color`. */
export function readableOn(color: string): string {
  const light = luminance(color);
  return 1.05 / (light + 0.05) >= (light + 0.05) / 0.05 ? '#ffffff' : '#000000';
}

export function applyLook(appearance: Appearance, look: Look | null): void {
  const { dataset, style } = document.documentElement;
  if (appearance === 'system') delete dataset['appearance'];
  else dataset['appearance'] = appearance;
  dataset['vibrancy'] = String(look?.vibrancy ?? false);
  if (look?.accent) {
    style.setProperty('--accent', look.accent);
    style.setProperty('--on-accent', readableOn(look.accent));
  } else {
    style.removeProperty('--accent');
    style.removeProperty('--on-accent');
  }
}
