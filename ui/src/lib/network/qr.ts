import qrcode from 'qrcode-generator';

export interface Qr {
  size: number;
  /** An SVG path with one square for each dark module. */
  path: string;
}

export function qrOf(text: string): Qr {
  const smallestThatFits = 0;
  const code = qrcode(smallestThatFits, 'M');
  code.addData(text);
  code.make();
  const size = code.getModuleCount();
  let path = '';
  for (let row = 0; row < size; row += 1) {
    for (let column = 0; column < size; column += 1) {
      if (code.isDark(row, column)) path += `M${column} ${row}h1v1h-1z`;
    }
  }
  return { size, path };
}
