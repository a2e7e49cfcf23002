export const isMac = /Mac/.test(navigator.platform);

/** Whether a key is pressed as a command to the app. Control belongs to text editing on a Mac. */
export function isCommand({ metaKey, ctrlKey, altKey, shiftKey }: KeyboardEvent): boolean {
  return (isMac ? metaKey : ctrlKey) && !altKey && !shiftKey;
}
