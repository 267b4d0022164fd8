/** Element of the page by its id. */
export function byId<T extends HTMLElement = HTMLElement>(id: string): T {
  return document.getElementById(id) as T;
}

/** Number with three significant digits. */
export function shown(value: number): string {
  return String(Number(value.toPrecision(3)));
}

export function percent(share: number): string {
  return `${(100 * share).toFixed(1)} %`;
}

export function bytes(count: number): string {
  if (count < 1000) return `${count} B`;
  if (count < 1e6) return `${(count / 1000).toFixed(1)} kB`;
  return `${(count / 1e6).toFixed(1)} MB`;
}

/** Milliseconds of each part, such as `1.1 + 20.9 ms`. */
export function milliseconds(...seconds: number[]): string {
  return `${seconds.map((one) => (1000 * one).toFixed(1)).join(" + ")} ms`;
}
