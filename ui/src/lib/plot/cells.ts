export interface Cell {
  row: number;
  column: number;
}

/** What a cell of value 0 keeps of its colour, so that the map has a shape. */
const empty = 0.07;

/** The cell at a place given as shares of width and height. */
export function cellAt(x: number, y: number, rows: number, columns: number): Cell {
  const place = (share: number, all: number) =>
    Math.max(0, Math.min(all - 1, Math.floor(share * all)));
  return { row: place(y, rows), column: place(x, columns) };
}

/** How much of its colour a cell shows: bent a little, so that small values differ too. */
export function strengthOf(value: number, most: number): number {
  const share = most > 0 ? Math.min(1, value / most) : 0;
  return empty + (1 - empty) * share ** 0.75;
}

export function drawCells(
  canvas: HTMLCanvasElement,
  values: number[][],
  most: number,
  color: string,
  outline: { cell: Cell; color: string } | null,
): void {
  const context = canvas.getContext('2d');
  const columns = values[0]?.length ?? 0;
  if (!context || columns === 0) return;
  const gap = Math.max(1, Math.round(devicePixelRatio));
  const edge = (place: number, all: number, size: number) => Math.round((place / all) * size);
  const box = (row: number, column: number): [number, number, number, number] => {
    const left = edge(column, columns, canvas.width);
    const top = edge(row, values.length, canvas.height);
    return [
      left,
      top,
      edge(column + 1, columns, canvas.width) - left - gap,
      edge(row + 1, values.length, canvas.height) - top - gap,
    ];
  };
  context.clearRect(0, 0, canvas.width, canvas.height);
  // To name a colour for each of two thousand cells takes several times as long as to fade one.
  context.fillStyle = color;
  values.forEach((cells, row) =>
    cells.forEach((value, column) => {
      context.globalAlpha = strengthOf(value, most);
      context.fillRect(...box(row, column));
    }),
  );
  context.globalAlpha = 1;
  if (!outline) return;
  context.strokeStyle = outline.color;
  context.lineWidth = 2 * gap;
  context.strokeRect(...box(outline.cell.row, outline.cell.column));
}
