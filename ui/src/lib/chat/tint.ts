import type { TokenRecord } from '$lib/backend/contract';

/** Tokens with the place where each begins in the answer's source. */
export interface TokenSpans {
  tokens: TokenRecord[];
  starts: number[];
}

export function spansOf(tokens: TokenRecord[]): TokenSpans {
  const starts: number[] = [];
  let at = 0;
  for (const token of tokens) {
    starts.push(at);
    at += token.text.length;
  }
  return { tokens, starts };
}

/** The index of the token that holds the character at `offset`. */
export function tokenAt({ starts }: TokenSpans, offset: number): number {
  let low = 0;
  let high = starts.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if ((starts[middle] ?? Infinity) <= offset) low = middle;
    else high = middle - 1;
  }
  return low;
}

/**
 * Finds rendered words in the Markdown source they came from. Rendering only leaves characters
 * out, so the first match behind the last one can lag within markup but never runs ahead.
 */
class Aligner {
  readonly #source: string;
  #at: number;
  readonly #end: number;

  constructor(source: string, start: number, end: number) {
    this.#source = source;
    this.#at = start;
    this.#end = end;
  }

  place(word: string): number[] {
    const whole = this.#find(word);
    if (whole >= 0) {
      this.#at = whole + word.length;
      return Array.from(word, (_, i) => whole + i);
    }
    return word.split('').map((character) => {
      const found = this.#find(character);
      if (found >= 0) this.#at = found + 1;
      return found >= 0 ? found : this.#at;
    });
  }

  #find(text: string): number {
    const found = this.#source.indexOf(text, this.#at);
    return found + text.length <= this.#end ? found : -1;
  }
}

/** White space belongs to no token that could be pointed at. */
const nobody = -1;

/** Wraps the text of a rendered block in one span a token. */
export function tint(root: Element, source: string, range: [number, number], spans: TokenSpans) {
  if (spans.tokens.length === 0) return;
  const aligner = new Aligner(source, ...range);
  for (const node of textNodes(root)) {
    const text = node.data;
    const owner: number[] = [];
    for (const match of text.matchAll(/(\s*)(\S*)/g)) {
      const word = match[2] ?? '';
      if (word === '') continue;
      const places = aligner.place(word).map((offset) => tokenAt(spans, offset));
      owner.push(...Array.from(match[1] ?? '', () => nobody), ...places);
    }
    if (owner.length > 0) node.replaceWith(wrapped(text, owner, spans));
  }
}

function textNodes(root: Element): Text[] {
  const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT, (node) =>
    node.parentElement?.closest('.code-bar') ? NodeFilter.FILTER_REJECT : NodeFilter.FILTER_ACCEPT,
  );
  const nodes: Text[] = [];
  while (walker.nextNode()) nodes.push(walker.currentNode as Text);
  return nodes;
}

function wrapped(text: string, owner: number[], { tokens }: TokenSpans): DocumentFragment {
  const fragment = document.createDocumentFragment();
  let from = 0;
  for (let at = 1; at <= owner.length; at += 1) {
    if (at < owner.length && owner[at] === owner[from]) continue;
    const index = owner[from] ?? nobody;
    const token = tokens[index];
    const part = text.slice(from, at);
    fragment.append(token ? span(part, index, token) : part);
    from = at;
  }
  fragment.append(text.slice(owner.length));
  return fragment;
}

function span(text: string, index: number, token: TokenRecord): HTMLElement {
  const element = document.createElement('span');
  element.className = `token ${token.decision}`;
  element.dataset['token'] = String(index);
  element.style.setProperty('--confidence', String(token.confidence ?? 1));
  element.textContent = text;
  return element;
}
