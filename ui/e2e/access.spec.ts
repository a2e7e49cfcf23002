import AxeBuilder from '@axe-core/playwright';
import type { Page } from '@playwright/test';
import { ask, expect, open, settingsSize, test } from './app';

async function noViolation(page: Page): Promise<void> {
  const { violations } = await new AxeBuilder({ page }).analyze();
  const found = violations.map(({ id, nodes }) => `${id}: ${nodes.map((n) => n.html).join('\n')}`);
  expect(found).toEqual([]);
}

const pages = ['models', 'policy', 'memory', 'network', 'general', 'live'];
const states = ['empty', 'loading', 'offline', 'unavailable', 'lan', 'streaming'];

// Colour is what differs in the dark, so there the fullest states are enough.
const inTheDark = ['lan', 'streaming'];

for (const colorScheme of ['light', 'dark'] as const) {
  test.describe(colorScheme, () => {
    test.use({ colorScheme });

    test('chat', async ({ page }) => {
      for (const mock of ['default', 'nomodel', 'loading', 'offline']) {
        await open(page, 'chat', { mock });
        await page.waitForTimeout(400);
        await noViolation(page);
      }
      await open(page, 'chat', { tick: 0.5 });
      await ask(page, 'Why can half of the experts be enough?');
      await page.getByRole('button', { name: 'Show decisions' }).click();
      await page.getByRole('button', { name: 'Options for this conversation' }).click();
      await page.getByText(/regenerated ·/).click();
      await noViolation(page);
      await page.getByRole('button', { name: 'Conversations' }).click();
      await page.getByRole('button', { name: 'Delete' }).first().click();
      await noViolation(page);
    });

    for (const mock of colorScheme === 'light' ? states : inTheDark) {
      test(`settings, ${mock}`, async ({ page }) => {
        await page.setViewportSize(settingsSize);
        for (const name of pages) {
          await open(page, `settings/${name}`, { mock });
          await page.waitForTimeout(450);
          await noViolation(page);
        }
      });
    }
  });
}
