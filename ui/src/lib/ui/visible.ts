/** Does something only while the page can be seen: `begin` starts it and gives the function that ends it. */
export function whileVisible(begin: () => () => void): () => void {
  let end: (() => void) | null = null;
  const follow = () => {
    if (!document.hidden) {
      end ??= begin();
      return;
    }
    end?.();
    end = null;
  };
  document.addEventListener('visibilitychange', follow);
  follow();
  return () => {
    document.removeEventListener('visibilitychange', follow);
    end?.();
  };
}
