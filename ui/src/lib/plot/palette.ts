const names = ['text', 'text-2', 'line', 'accent', 'little', 'fallback', 'window'] as const;
export type ColorName = (typeof names)[number];
export type Palette = Record<ColorName, string>;

/** The design tokens as colours a canvas understands: it knows neither `var` nor `light-dark`. */
export function paletteOf(element: HTMLElement): Palette {
  const probe = document.createElement('span');
  element.append(probe);
  const entries = names.map((name) => {
    probe.style.color = `var(--${name})`;
    return [name, getComputedStyle(probe).color];
  });
  probe.remove();
  return Object.fromEntries(entries) as Palette;
}

/** Calls back when light turns dark, or the accent changes. */
export function onThemeChange(changed: () => void): () => void {
  const media = matchMedia('(prefers-color-scheme: dark)');
  const observer = new MutationObserver(changed);
  media.addEventListener('change', changed);
  observer.observe(document.documentElement, { attributes: true });
  return () => {
    media.removeEventListener('change', changed);
    observer.disconnect();
  };
}

export function faded(color: string, alpha: number): string {
  return color.replace(/^rgba?\(([^,]+,[^,]+,[^,)]+).*\)$/, `rgba($1, ${alpha})`);
}
