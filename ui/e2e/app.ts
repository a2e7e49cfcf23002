import { expect, test as base, type Page } from '@playwright/test';

export { expect };

/** Every test fails on a console error, a broken content policy, or a request that leaves. */
export const test = base.extend<{ guard: undefined }>({
  guard: [
    async ({ page, baseURL }, use) => {
      const faults: string[] = [];
      page.on('console', (message) => {
        if (message.type() === 'error') faults.push(message.text());
      });
      page.on('pageerror', (error) => faults.push(error.message));
      page.on('request', (request) => {
        const url = request.url();
        if (!url.startsWith(baseURL ?? '') && !url.startsWith('data:')) faults.push(url);
      });
      await use(undefined);
      expect(faults).toEqual([]);
    },
    { auto: true },
  ],
});

export interface Opened {
  mock?: string;
  tick?: number;
  accent?: string;
}

export async function open(page: Page, hash: string, options: Opened = {}): Promise<void> {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(options)) query.set(name, String(value));
  await page.goto(`/?${query.toString()}#${hash}`);
  await expect(page.locator('main')).toBeVisible();
}

export const settingsSize = { width: 920, height: 680 };

export async function ask(page: Page, text: string): Promise<void> {
  await page.getByLabel('Message', { exact: true }).fill(text);
  await page.keyboard.press('Enter');
}
