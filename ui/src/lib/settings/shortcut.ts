const modifiers = ['Control', 'Alt', 'Shift', 'Meta'];

/** The pressed keys as Tauri writes an accelerator, or null while only modifiers are held. */
export function acceleratorFrom(event: KeyboardEvent): string | null {
  if (modifiers.includes(event.key)) return null;
  const parts: string[] = [];
  if (event.metaKey) parts.push('Super');
  if (event.ctrlKey) parts.push('Control');
  if (event.altKey) parts.push('Alt');
  if (event.shiftKey) parts.push('Shift');
  if (parts.length === 0 || (parts.length === 1 && event.shiftKey)) return null;
  // `code` is the key itself: with Alt held, `key` would be whatever that types.
  parts.push(event.code.replace(/^(Key|Digit)/, ''));
  return parts.join('+');
}

const symbols: Record<string, string> = { Super: '⌘', Control: '⌃', Alt: '⌥', Shift: '⇧' };

export function shownAccelerator(accelerator: string, mac: boolean): string {
  const parts = accelerator.split('+');
  return mac ? parts.map((part) => symbols[part] ?? part).join(' ') : parts.join(' + ');
}
