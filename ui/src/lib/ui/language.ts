const fallback = 'en-US';

/** The user's language, where `Intl` knows one of that name. */
export function languageOf(navigator: Pick<Navigator, 'language'>): string {
  try {
    return Intl.getCanonicalLocales(navigator.language)[0] ?? fallback;
  } catch {
    return fallback;
  }
}

/**
 * WebKitGTK takes the locale C for a language. `Intl` refuses that name, and libraries that pass it
 * on while they are loaded would take the whole page with them.
 */
export function mendLanguage(navigator: Navigator): void {
  const value = languageOf(navigator);
  if (value !== navigator.language) {
    Object.defineProperty(navigator, 'language', { value, configurable: true });
  }
}
