import { describe, expect, it } from 'vitest';
import { applyLook, readableOn } from './look';
import { acceleratorFrom, shownAccelerator } from './shortcut';

describe('the accent', () => {
  it('carries the more readable of black and white', () => {
    expect(readableOn('#ffcc00')).toBe('#000000');
    expect(readableOn('#0a3ea8')).toBe('#ffffff');
  });

  it('is taken away again', () => {
    const { style, dataset } = document.documentElement;
    applyLook('dark', { accent: '#ff00aa', vibrancy: true });
    expect(style.getPropertyValue('--accent')).toBe('#ff00aa');
    expect(dataset['appearance']).toBe('dark');
    applyLook('system', null);
    expect(style.getPropertyValue('--accent')).toBe('');
    expect(dataset['appearance']).toBeUndefined();
  });
});

describe('a shortcut', () => {
  const press = (init: KeyboardEventInit) => acceleratorFrom(new KeyboardEvent('keydown', init));

  it('needs a modifier besides shift', () => {
    expect(press({ key: 'm', code: 'KeyM' })).toBeNull();
    expect(press({ key: 'M', code: 'KeyM', shiftKey: true })).toBeNull();
    expect(press({ key: 'Alt', code: 'AltLeft', altKey: true })).toBeNull();
    expect(press({ key: 'µ', code: 'KeyM', altKey: true })).toBe('Alt+M');
  });

  it('is shown as the platform writes it', () => {
    expect(shownAccelerator('Super+Shift+M', true)).toBe('⌘ ⇧ M');
    expect(shownAccelerator('Super+Shift+M', false)).toBe('Super + Shift + M');
  });
});
