import { expect, it } from 'vitest';
import { languageOf, mendLanguage } from './language';

it.each([
  ['de-AT', 'de-AT'],
  ['C', 'en-US'],
  ['POSIX.1', 'en-US'],
  ['', 'en-US'],
])('%s is read as %s', (language, known) => expect(languageOf({ language })).toBe(known));

it('replaces only a language that is none', () => {
  const posix = { language: 'C' } as Navigator;
  mendLanguage(posix);
  expect(new Intl.NumberFormat(posix.language).format(1.5)).toBe('1.5');
  const german = Object.freeze({ language: 'de' }) as Navigator;
  expect(() => mendLanguage(german)).not.toThrow();
});
