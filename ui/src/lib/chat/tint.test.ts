import { describe, expect, it } from 'vitest';
import type { TokenRecord } from '$lib/backend/contract';
import { renderMarkdown } from './markdown';
import { spansOf, tint, tokenAt } from './tint';

function tokensOf(pieces: string[], fallback: number[] = []): TokenRecord[] {
  return pieces.map((text, index) => ({
    text,
    decision: fallback.includes(index) ? 'fallback' : 'little',
    confidence: 0.5,
    ms: 1,
  }));
}

function tinted(pieces: string[], fallback: number[]): HTMLElement {
  const source = pieces.join('');
  const spans = spansOf(tokensOf(pieces, fallback));
  const root = document.createElement('div');
  for (const block of renderMarkdown(source)) {
    const element = document.createElement('div');
    element.innerHTML = block.html;
    tint(element, source, [block.start, block.end], spans);
    root.append(element);
  }
  return root;
}

const marked = (root: HTMLElement) =>
  [...root.querySelectorAll('.fallback')].map((element) => element.textContent);

describe('tokenAt', () => {
  it('finds the token that holds a character', () => {
    const spans = spansOf(tokensOf(['ab', 'c', '', 'def']));
    expect([0, 1, 2, 3, 5].map((offset) => tokenAt(spans, offset))).toEqual([0, 0, 1, 3, 3]);
  });
});

describe('tint', () => {
  it('marks words, without the space in front', () => {
    expect(marked(tinted(['One', ' two', ' three'], [1]))).toEqual(['two']);
  });

  it('sees through markup', () => {
    const pieces = ['A ', '**', 'bold', '**', ' and', ' `', 'code', '`', ' word'];
    expect(marked(tinted(pieces, [2, 6, 8]))).toEqual(['bold', 'code', 'word']);
  });

  it('skips the address of a link', () => {
    const pieces = ['[', 'the text', '](https://the.example/text)', ' after', ' it'];
    expect(marked(tinted(pieces, [3]))).toEqual(['after']);
  });

  it('follows lists and code blocks', () => {
    const pieces = ['- ', 'one', '\n- ', 'two', '\n\n```rust\n', 'let', ' x', '\n```'];
    expect(marked(tinted(pieces, [3, 6]))).toEqual(['two', 'x']);
  });

  it('keeps the text as it was', () => {
    const pieces = ['Tom &', ' Jerry <', 'b>', ' *say* ', '“hi”', ' 🙂'];
    const plain = document.createElement('div');
    plain.innerHTML = renderMarkdown(pieces.join(''))[0]?.html ?? '';
    expect(tinted(pieces, [1]).textContent).toBe(plain.textContent);
  });
});
