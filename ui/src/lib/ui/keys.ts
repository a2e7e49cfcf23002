export const isMac = /Mac/.test(navigator.platform);

/** Whether a key is pressed as a command to the app. Control belongs to text editing on a Mac. */
export function isCommand({ metaKey, ctrlKey, altKey, shiftKey }: KeyboardEvent): boolean {
  return (isMac ? metaKey : ctrlKey) && !altKey && !shiftKey;
}

/**
 * Whether a key belongs to an input method. WebKit ends the composition before it sends the Enter that
 * confirms it, and only the code of that key, 229, still tells.
 */
export function isComposing(event: KeyboardEvent): boolean {
  return event.isComposing || event.keyCode === 229;
}
